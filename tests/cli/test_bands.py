"""Bands from outside: a query on a finished run, on record, and with the words that they deserve."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import segsvc as library
from segsvc.card import ModelCard
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.types import Runtime
from tests.cli.test_usage import complaint
from tests.conftest import Program, write_model
from tests.scenes import write_scenes

MEASURED = "measured, not guaranteed"


@pytest.fixture(scope="module")
def place(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with images and a finished run, `done`, that no test changes."""
    program = Program(environment, tmp_path_factory.mktemp("bands"))
    write_scenes(program.folder / "in", 6)
    answer = program("run", "in", "--model", "bright", "--out", "done", "--shard-size", "4")
    assert answer.code == 0, answer.stderr
    return program


@pytest.fixture
def out(place: Program, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(place.folder / "done", tmp_path / "out"))


def model_with(place: Program, folder: str, *, basis: Basis, runtime: Runtime | None,
               classes: dict[str, ClassThresholds], class_names: tuple[str, ...] = ("bright",)) -> Path:
    """A model in a folder of its own, with this operating point."""
    card = write_model(place.folder / folder, name="pointed", classes=class_names)
    point = OperatingPoint(basis=basis, classes=classes, runtime=runtime, model_digest=card.digest, note="of a test")
    (place.folder / folder / "pointed" / "operating_point.json").write_text(point.to_json())
    return place.folder / folder / "pointed"


def parts(out: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(out.rglob("part-*.parquet"))}


def run_json(out: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((out / "run.json").read_text())
    return document


def bands_of(out: Path) -> dict[str, int]:
    counted = Counter(library.open_run(str(out)).candidates()["band"].to_pylist())
    return {name: counted[name] for name in ("accepted", "review", "rejected")}


def test_without_an_operating_point_every_stored_candidate_is_for_review(place: Program) -> None:
    out = place.folder / "done"
    assert json.loads((out / "bands.json").read_text()) == {"operating_points": []}
    assert set(bands_of(out)) == {"accepted", "review", "rejected"}
    assert bands_of(out)["review"] == pq.read_table(out / "candidates").num_rows > 10


def test_band_is_a_query_that_leaves_every_part_untouched(place: Program, out: Path) -> None:
    before = parts(out)
    answer = place("band", out, "--flag-at", "0.99", "--accept-at", "0.9998", "--json")
    assert answer.code == 0, answer.stderr
    assert parts(out) == before
    said, scores = json.loads(answer.stdout), pq.read_table(out / "candidates")["score"].to_pylist()
    expected = {"accepted": sum(score >= 0.9998 for score in scores),
                "review": sum(0.99 <= score < 0.9998 for score in scores),
                "rejected": sum(score < 0.99 for score in scores)}
    assert said["candidates"] == run_json(out)["candidates"] == bands_of(out) == expected
    assert min(expected.values()) > 0
    assert said["wording"] == run_json(out)["operating_point_wording"] == "set by hand, not guaranteed"
    assert "set by hand, not guaranteed" in (out / "report.html").read_text()


def test_bands_json_keeps_all_operating_points_oldest_first(place: Program, out: Path) -> None:
    for flag_at in ("0.93", "0.91"):
        assert place("band", out, "--flag-at", flag_at).code == 0
    points = json.loads((out / "bands.json").read_text())["operating_points"]
    assert [point["classes"]["*"] for point in points] == [
        {"flag_at": 0.93, "accept_at": None}, {"flag_at": 0.91, "accept_at": None}]
    assert sorted(points, key=lambda point: point["set_at"]) == points
    assert run_json(out)["operating_point"] == points[-1]


def test_a_finished_run_takes_other_bands_by_run_and_keeps_them_without_flags(place: Program, out: Path) -> None:
    before = parts(out)
    command = ("run", "in", "--model", "bright", "--out", out, "--shard-size", "4")
    assert place(*command, "--flag-at", "0.99").code == 0
    with_bands = bands_of(out)
    assert with_bands["rejected"] > 0
    answer = place(*command, "--json")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["candidates"] == with_bands
    assert len(json.loads((out / "bands.json").read_text())["operating_points"]) == 1
    assert parts(out) == before


def test_a_threshold_below_what_the_model_stores_is_pointed_out(place: Program, out: Path) -> None:
    answer = place("band", out, "--flag-at", "0.2")
    assert answer.code == 0
    assert "0.9" in answer.stderr
    assert "note:" in answer.stderr


def test_bands_by_hand_need_no_model_but_a_recall_does(place: Program, out: Path, tmp_path: Path) -> None:
    elsewhere = {"SEGSVC_MODELS_DIR": str(tmp_path / "no-models")}
    assert place("band", out, "--flag-at", "0.95", environment=elsewhere).code == 0
    answer = place("band", out, "--recall", "0.95", environment=elsewhere)
    assert "not here" in complaint(answer, 2)


@pytest.mark.parametrize("state", ["running", "failed"])
def test_band_wants_a_finished_run(place: Program, out: Path, state: str) -> None:
    (out / "run.json").write_text(json.dumps({**run_json(out), "state": state}))
    before = (out / "bands.json").read_bytes(), (out / "run.json").read_bytes()
    said = complaint(place("band", out, "--flag-at", "0.95"), 2)
    assert "finished run" in said
    assert state in said
    assert ((out / "bands.json").read_bytes(), (out / "run.json").read_bytes()) == before
    report = place("report", out, "--json")  # a report can be had at any time, and changes nothing else
    assert report.code == 0, report.stderr
    assert (out / "run.json").read_bytes() == before[1]


def test_band_on_a_run_without_run_json_or_with_a_damaged_bands_json_says_so(place: Program, out: Path) -> None:
    (out / "bands.json").write_text("{}")
    assert "bands.json" in complaint(place("band", out, "--flag-at", "0.95"), 2)
    (out / "run.json").unlink()
    assert "run.json" in complaint(place("band", out, "--flag-at", "0.95"), 2)


def test_operating_points_hold_class_by_class(place: Program) -> None:
    points = {"zebra": ClassThresholds(flag_at=0.9, accept_at=0.9), "ant": ClassThresholds(flag_at=1.0)}
    model = model_with(place, "by-class", basis=Basis.MEASURED, runtime=None, class_names=("zebra", "ant", "bee"),
                       classes=points)
    answer = place("run", "in", "--model", model, "--out", "by-class-out", "--limit", "2")
    assert answer.code == 0, answer.stderr
    rows = library.open_run(str(place.folder / "by-class-out")).candidates().to_pylist()
    found = {(row["class_name"], row["band"]) for row in rows if row["score"] < 1}
    assert found == {("zebra", "accepted"), ("ant", "rejected"), ("bee", "review")}  # of bee the point says nothing
    answer = place("band", "by-class-out", "--flag-at", "0.9", "--accept-at", "0.9")
    assert answer.code == 0, answer.stderr
    assert bands_of(place.folder / "by-class-out")["accepted"] == len(rows)


def everything_shown(place: Program, model: Path, out: str, *flags: str) -> dict[str, str]:
    """What users are shown of a run's operating point, place by place."""
    answer = place("run", "in", "--model", model, "--out", out, "--limit", "1", *flags)
    assert answer.code == 0, answer.stderr
    folder = place.folder / out
    return {"the summary": answer.stdout,
            "run.json": str(run_json(folder)["operating_point_wording"]),
            "report.html": (folder / "report.html").read_text()}


@pytest.mark.parametrize(("basis", "runtime", "flags", "wording"), [
    (Basis.MEASURED, Runtime.OPENVINO, (), MEASURED),
    (Basis.MEASURED, Runtime.OPENVINO, ("--runtime", "torch-cpu"), MEASURED),
    (Basis.CALIBRATED, Runtime.OPENVINO, (), "guaranteed as calibrated"),
    (Basis.CALIBRATED, Runtime.OPENVINO, ("--runtime", "torch-cpu"), MEASURED),
], ids=["measured", "measured elsewhere", "calibrated", "calibrated elsewhere"])
def test_everything_that_shows_bands_says_what_they_rest_on(
    place: Program, basis: Basis, runtime: Runtime, flags: tuple[str, ...], wording: str,
) -> None:
    name = f"{basis.value}{len(flags)}"
    model = model_with(place, name, basis=basis, runtime=runtime,
                       classes={"bright": ClassThresholds(flag_at=0.95, accept_at=0.9999)})
    shown = everything_shown(place, model, f"out-{name}", *flags)
    assert [where for where, text in shown.items() if wording not in text] == []
    if wording == MEASURED:
        assert [where for where, text in shown.items() if "guaranteed as calibrated" in text] == []


def test_models_list_and_show_say_measured_not_guaranteed(place: Program) -> None:
    model = model_with(place, "listed", basis=Basis.MEASURED, runtime=Runtime.OPENVINO,
                       classes={"bright": ClassThresholds(flag_at=0.95)})
    own = {"SEGSVC_MODELS_DIR": str(model.parent)}
    for command in (("list",), ("list", "--json"), ("show", "pointed")):
        assert MEASURED in place("models", *command, environment=own).stdout, command
    point = json.loads(place("models", "show", "pointed", "--json", environment=own).stdout)["operating_point"]
    assert point["basis"] == "measured"


def test_an_operating_point_of_another_model_is_not_used(place: Program) -> None:
    model = model_with(place, "strange", basis=Basis.MEASURED, runtime=None,
                       classes={"bright": ClassThresholds(flag_at=0.95)})
    point = json.loads((model / "operating_point.json").read_text())
    (model / "operating_point.json").write_text(json.dumps({**point, "model_digest": "ab" * 32}))
    shown = place("models", "show", model)
    assert shown.code == 0
    assert MEASURED not in shown.stdout
