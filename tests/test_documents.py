"""Every JSON document that a command prints or a run leaves behind is as its published schema says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from segsvc import documents
from segsvc.card import ModelCard
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from tests.conftest import Program
from tests.scenes import write_scenes

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def place(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with a finished run, `out`, one image of which failed."""
    program = Program(environment, tmp_path_factory.mktemp("documents"))
    write_scenes(program.folder / "in", 3)
    (program.folder / "in" / "bad.png").write_bytes(b"no picture")
    (program.folder / "in" / "notes.txt").write_text("skipped")
    answer = program("run", "in", "--model", "bright", "--out", "out", "--flag-at", "0.95")
    assert answer.code == 3, answer.stderr
    return program


def check(name: str, text: str) -> dict[str, Any]:
    """Parses all of `text` as one JSON document, and holds it against the schema of that name."""
    document: dict[str, Any] = json.loads(text)
    schema = json.loads((resources.files("segsvc") / "schemas" / f"{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(document)
    return document


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_published_schemas_are_those_of_the_code(name: str) -> None:
    published = (documents.SCHEMAS / f"{name}.json").read_text("utf-8")
    assert published == documents.json_schema(name), "run `python -m segsvc.documents`"
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


def test_there_are_schemas_of_these_documents_and_no_others() -> None:
    assert {path.stem for path in documents.SCHEMAS.iterdir()} == {
        "run", "dry_run", "band", "models", "model", "export", "report", "metrics", "doctor", "spec", "bands", "card",
        "operating_point", "dataset", "dataset_check", "model_import", "model_export", "catalogue",
        "calibration", "review_import", "gold", "audit", "users", "user", "token", "ledger_file",
        "sample", "verdict_labels", "improve", "model_versions", "job", "jobs", "trigger", "reconcile"}


def test_writing_the_schemas_gives_the_published_bytes_and_removes_stale_ones(tmp_path: Path) -> None:
    (tmp_path / "stale.json").write_text("{}")
    documents.write_schemas(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in documents.SCHEMAS.iterdir()}


def test_the_module_writes_them_when_it_is_run_and_prints_nothing(tmp_path: Path) -> None:
    package = tmp_path / "segsvc"
    shutil.copytree(ROOT / "segsvc", package, ignore=shutil.ignore_patterns("*.json", "packaged_models", "__pycache__"))
    answer = subprocess.run([sys.executable, "-m", "segsvc.documents"], cwd=tmp_path, capture_output=True, text=True,
                            check=False, timeout=60)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert (package / "schemas" / "run.json").read_bytes() == (documents.SCHEMAS / "run.json").read_bytes()


def test_schemas_are_part_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "schemas/*.json" in project["tool"]["setuptools"]["package-data"]["segsvc"]


@pytest.mark.parametrize(("name", "arguments", "code"), [
    ("run", ("run", "in", "--model", "bright", "--out", "out", "--json"), 3),
    ("dry_run", ("run", "in", "--model", "bright", "--out", "none", "--dry-run", "--json"), 0),
    ("dry_run", ("run", "in/bad.png", "--model", "bright", "--out", "none", "--dry-run", "--json"), 0),
    ("band", ("band", "out", "--flag-at", "0.99", "--accept-at", "0.9999", "--json"), 0),
    ("models", ("models", "list", "--json"), 0),
    ("model", ("models", "show", "bright", "--json"), 0),
    ("catalogue", ("models", "pull", "--list", "--json"), 0),
    ("model", ("models", "show", "nuclei", "--json"), 0),
    ("export", ("export", "out", "--format", "csv", "--to", "x.csv", "--json"), 0),
    ("report", ("report", "out", "--json"), 0),
    ("doctor", ("doctor", "--json"), 0),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else None)
def test_json_is_one_document_on_stdout_as_its_schema_says(
    place: Program, name: str, arguments: tuple[str, ...], code: int,
) -> None:
    answer = place(*arguments)
    assert answer.code == code, answer.stderr
    document = check(name, answer.stdout)
    if name == "run":
        assert document == json.loads((place.folder / "out" / "run.json").read_text())
    if name == "dry_run":
        assert not (place.folder / "none").exists()


def test_what_a_run_leaves_behind_is_as_its_schemas_say(place: Program) -> None:
    for name in ("run", "spec", "bands"):
        check(name, (place.folder / "out" / f"{name}.json").read_text())


def test_a_card_and_an_operating_point_are_as_their_schemas_say(bright: ModelCard) -> None:
    check("card", bright.to_json())
    by_person = {key: value for key, value in bright.model_dump(mode="json").items()
                 if key in ("name", "family", "task", "arch", "classes", "weights_sha256", "licence")}
    check("card", json.dumps(by_person))  # defaults may be left out
    check("operating_point", OperatingPoint(basis=Basis.MEASURED, classes={"*": ClassThresholds(flag_at=0.5)}).to_json())


@pytest.mark.parametrize(("name", "document"), [("run", {}), ("spec", {"input": "x"}), ("card", {"name": "x", "more": 1}),
                                                ("bands", {"operating_points": [{"basis": "guessed", "classes": {}}]})])
def test_schemas_refuse_what_the_code_would(name: str, document: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(name, json.dumps(document))
