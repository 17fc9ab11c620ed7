"""DATASET, wherever a command takes one: a place, or a label set of the ledger."""

from __future__ import annotations

from segsvc.cli.progress import say
from segsvc.datasets import LABEL_SET
from segsvc.errors import ConfigError


def called(dataset: str) -> str | None:
    """What a label set is called, wherever it is written for the command; None where the place says it."""
    return dataset if dataset.startswith(LABEL_SET) else None


def resolve(dataset: str, ledger_place: str) -> str:
    """The place of the data set; `label:SET` is written out of the ledger first. Raises ConfigError."""
    if not dataset.startswith(LABEL_SET):
        return dataset
    from segsvc.labels.writing import write_set  # these load the ledger: not for those who do without
    from segsvc.ledger.opening import open_ledger, there_is_one

    if not there_is_one(ledger_place):
        raise ConfigError(f"DATASET: expected a ledger at {ledger_place} for {dataset!r}, there is none. --ledger says "
                          "where it is.")
    with open_ledger(ledger_place) as ledger:
        return str(write_set(ledger, dataset, say=lambda text: say(f"note: {text}")).place)
