"""`segsvc review`."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from segsvc.cli.errand import do
from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import CommandGroup, Exit
from segsvc.errors import ConfigError
from segsvc.ledger.errands import ImportRun, PutGold
from segsvc.ledger.records import Verdict
from segsvc.ledger_documents import GoldDocument, ReviewImportDocument


@click.group("review", cls=CommandGroup)
def command() -> None:
    """Take runs into the ledger, for people to review. A server on the ledger may go on."""


@command.command("import")
@click.argument("out")
@ledger_flag
@click.option("--readers", type=click.IntRange(1, 2), help="How many read each candidate; with 2, a third if they differ.")
@click.option("--blind/--not-blind", default=None, help="Hide scores and others' verdicts until one has decided.")
@click.option("--audit-share", type=float, help="Of what rules decided, so much is reviewed too.")
@click.option("--gold-share", type=float, help="Of what is given out, so much has a known answer.")
@click.option("--seed", type=int, help="Of the audit sample and of the random order; by default drawn, and kept.")
@click.option("--lease-s", type=int, help="Seconds until what one was given is given to others.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def import_(out: str, place: str, readers: int | None, blind: bool | None, audit_share: float | None,
            gold_share: float | None, seed: int | None, lease_s: int | None, as_json: bool) -> int:
    """Take the review band and an audit sample of the run in OUT into the ledger.

    The same again takes in what changed, as after `segsvc band`. What is not said of the review stays as it was, or is as
    the settings say.
    """
    run = do(place, ImportRun(out=_whole(out), readers=readers, blind=blind, audit_share=audit_share, gold_share=gold_share,
                              seed=seed, lease_s=lease_s), ReviewImportDocument)
    if as_json:
        click.echo(run.model_dump_json(indent=2))
    else:
        click.echo(f"run {run.run_id}: {run.review} to review, {run.audit} drawn from the {run.accepted + run.rejected} "
                   f"that rules decided\n`segsvc serve --ledger {run.ledger}` shows them")
    return Exit.DONE


@command.command("gold")
@click.argument("out")
@click.argument("answers", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@ledger_flag
@click.option("--by", default="lead", show_default=True, help="Who knows the answers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def gold_(out: str, answers: Path, place: str, by: str, as_json: bool) -> int:
    """Note known answers: ANSWERS is a CSV with the columns candidate_id and verdict (accepted or rejected).

    Such candidates are strewn among the others, and tell how well a reader decides.
    """
    known = do(place, PutGold(out=_whole(out), answers=_answers(answers), by=by), GoldDocument)
    click.echo(known.model_dump_json(indent=2) if as_json else f"run {known.run_id}: {known.answers} known answers")
    return Exit.DONE


def _whole(out: str) -> str:
    """OUT as another process finds it too."""
    return out if "://" in out else str(Path(out).absolute())


def _answers(path: Path) -> dict[str, Verdict]:
    known = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"candidate_id", "verdict"} <= set(reader.fieldnames or ()):
            raise ConfigError(f"{path}: expected the columns candidate_id and verdict, got {reader.fieldnames}")
        for row in reader:
            try:
                known[row["candidate_id"]] = Verdict(row["verdict"])
            except ValueError as error:
                raise ConfigError(f"{path}, line {reader.line_num}: expected the verdict accepted or rejected, got "
                                  f"{row['verdict']!r}") from error
    return known
