"""A run with a detector, as a user sees it: published, resumed to the same bytes, shown and exported."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
from pycocotools import mask as coco

import segsvc as library
from tests.conftest import Program
from tests.detectors import detector_card, write_detector
from tests.networks import textured


def parts(out: Path) -> dict[str, str]:
    return {f"{kind}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
            for kind in ("plan", "candidates", "images") for path in sorted((out / kind).glob("part-*.parquet"))}


def test_a_run_with_a_detector_is_published_resumed_reported_and_exported(segsvc: Program) -> None:
    folder = segsvc.folder
    model = write_detector(folder / "models", detector_card())
    (folder / "in").mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / "in" / f"{number}.png"), textured(number, width_px=150 + 30 * number, height_px=140))
    command = ("run", "in", "--model", str(model.folder), "--shard-size", "2", "--workers", "1", "--runtime", "torch-cpu")
    answer = segsvc(*command, "--threads", "2", "--out", "whole")
    assert answer.code == 0, answer.stderr
    shutil.copytree(folder / "whole", folder / "cut")
    for kind in ("images", "candidates"):  # as if it had been killed before the second shard
        (folder / "cut" / kind / "part-00001.parquet").unlink()
    answer = segsvc(*command, "--threads", "1", "--out", "cut", "--json")
    assert answer.code == 0, answer.stderr
    assert parts(folder / "cut") == parts(folder / "whole")
    assert len(parts(folder / "whole")) == 6
    assert set(json.loads(answer.stdout)["filtered"]) == {"below_floor", "below_min_area"}
    assert "masks" in json.loads(answer.stdout)["seconds_by_stage"]

    rows = library.open_run(str(folder / "cut")).candidates().to_pylist()
    assert len(rows) > 20
    assert {row["kind"] for row in rows} == {"instance"}
    assert {row["band"] for row in rows} == {"review"}
    assert all(0 < row["mean_score"] <= 1 and row["area_px"] >= 4 for row in rows)
    assert (folder / "cut" / "report.html").stat().st_size > 10_000

    for name in ("coco", "geojson"):
        answer = segsvc("export", "cut", "--format", name, "--to", f"exported-{name}", "--verdict", "all")
        assert answer.code == 0, f"{name}: {answer.stderr}"
    [file] = (folder / "exported-coco").rglob("*.json")
    annotations = json.loads(file.read_text())["annotations"]
    assert sorted(int(coco.area(each["segmentation"])) for each in annotations) == sorted(row["area_px"] for row in rows)
