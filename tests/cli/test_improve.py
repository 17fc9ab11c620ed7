"""`segsvc improve`: what cannot be done is told in a line or two before anything is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from segsvc.ledger import labelling
from segsvc.ledger.label_records import NewLabelling, NewObject
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import LOCAL
from segsvc.types import Box
from tests.cli.test_usage import complaint
from tests.conftest import Program, write_model
from tests.scenes import write_scenes


def label(place: Path, name: str, class_name: str, *, most: int = 50) -> None:
    """The same box on each of the first images of a set."""
    with open_ledger(str(place)) as ledger:
        for item in labelling.lease(ledger, LOCAL, name, n=50)[:most]:
            labelling.done(ledger, LOCAL, item.image.image_id,
                           NewLabelling(False, (NewObject(class_name, Box(10, 10, 20, 20)),)), set_name=name)


@pytest.fixture
def program(environment: Mapping[str, str], tmp_path: Path) -> Program:
    """A model of the test's own, and label sets: one of its class, one of another, one that is not finished."""
    program = Program({**environment, "SEGSVC_MODELS_DIR": str(tmp_path / "models")}, tmp_path)
    write_model(tmp_path / "models", name="own")
    write_scenes(tmp_path / "images", 12)
    for name, class_name, most in (("few", "bright", 50), ("other", "cat", 50), ("begun", "bright", 3)):
        assert program("sample", "images", "--n", "12", "--name", name, "--class", class_name).code == 0
        label(tmp_path / "segsvc-data", name, class_name, most=most)
    return program


def test_what_cannot_be_improved_by_it_is_told_in_a_line_or_two_and_nothing_is_made(program: Program) -> None:
    cases = (
        (("own", "--data", "label:none"), "expected one of the ledger (begun, other, few), got 'none'"),
        (("own", "--data", "label:begun"), "The first 3 in drawn order are: label:begun@3"),
        (("own", "--data", "label:other"), "expected a data set with classes of model own (bright), got label:other with"),
        (("own", "--data", "label:few"), "label:few: expected enough labelled images for three parts"),
        (("own", "--data", "nowhere"), "there is no 'nowhere'"),
        (("own", "--data", "label:few", "--from-review", "nowhere"), "expected a run of the ledger"),
        (("own", "--data", "label:few", "--ledger", "elsewhere"), "expected a ledger at elsewhere"),
        (("none", "--data", "label:few"), "no model is called 'none'"),
        (("own", "--data", "label:few", "--name", "../own"), "--name: expected letters"),
        (("own", "--data", "label:few", "--recall", "1.5"), "--recall: expected more than 0 and less than 1, got 1.5"),
    )
    for arguments, says in cases:
        assert says in complaint(program("improve", *arguments), 2), arguments
    assert sorted(path.name for path in (program.folder / "models").rglob("*") if path.is_file()) == [
        ".lock", "card.json", "model.safetensors"]
