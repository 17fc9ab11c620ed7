"""What `import segsvc` offers: held name by name, light to import, and equal to what a run stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import segsvc
from segsvc.card import ModelCard
from segsvc.tables import CANDIDATES_VIEW_SCHEMA, IMAGES_SCHEMA
from tests.conftest import Program
from tests.scenes import scene

HEAVY = ("torch", "ray", "boto3", "cv2", "openvino", "fastapi", "numba", "pyarrow", "pydantic", "tifffile", "PIL", "click")


def test_the_public_names_are_these() -> None:
    assert segsvc.__all__ == [
        "Band", "Box", "Candidate", "CandidateKind", "ConfigError", "ImageError", "ImageErrorKind", "ImageStatus",
        "RunError", "Segmentation", "SegsvcError", "UnknownName", "load", "open_run"]
    assert [name for name in segsvc.__all__ if not hasattr(segsvc, name)] == []
    assert issubclass(segsvc.UnknownName, segsvc.ConfigError)
    assert all(issubclass(each, segsvc.SegsvcError) for each in (segsvc.ConfigError, segsvc.RunError, segsvc.ImageError))


def test_importing_loads_nothing_heavy() -> None:
    probe = f"import sys, segsvc; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "[]\n"


def images() -> dict[str, npt.NDArray[np.uint8] | npt.NDArray[np.uint16]]:
    """Arrays by the name of a PNG with these pixels: grey and RGB, of 8 and 16 bit."""
    grey = scene(3)
    deep = grey.astype(np.uint16) * 257 + 3
    rgb = np.stack([grey, scene(4), scene(5)], axis=2)
    return {"deep.png": deep, "grey.png": grey, "rgb-deep.png": rgb.astype(np.uint16) * 257, "rgb.png": rgb}


@pytest.fixture(scope="module")
def place(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with these images and a run over them, `out`."""
    program = Program(environment, tmp_path_factory.mktemp("surface"))
    (program.folder / "in").mkdir()
    for name, pixels in images().items():
        cv2.imwrite(str(program.folder / "in" / name), pixels if pixels.ndim == 2 else pixels[:, :, ::-1])
    answer = program("run", "in", "--model", "bright", "--out", "out", "--flag-at", "0.95", "--accept-at", "0.9999")
    assert answer.code == 0, answer.stderr
    return program


def as_stored(found: segsvc.Segmentation) -> list[dict[str, Any]]:
    """Candidates as the columns of a run hold them."""
    return [{"frame": each.frame, "class_name": each.class_name, "kind": each.kind.value, "score": each.score,
             "mean_score": each.mean_score, "x0": each.box.x0, "y0": each.box.y0, "x1": each.box.x1, "y1": each.box.y1,
             "area_px": each.area_px, "mask_rle": each.mask_rle.decode() if each.mask_rle is not None else None,
             "touches_edge": each.touches_edge} for each in found]


def test_a_path_bytes_and_an_array_give_the_candidates_that_a_run_stores(
    place: Program, in_process: Callable[[], None],
) -> None:
    model = segsvc.load("bright", threads=1)
    rows = segsvc.open_run(str(place.folder / "out")).candidates().to_pylist()
    for name, pixels in images().items():
        path = place.folder / "in" / name
        stored = [row for row in rows if row["image_uri"].endswith("/" + name)]
        assert len(stored) > 1, name
        for given in (path, str(path), path.as_uri(), path.read_bytes(), pixels,
                      np.asfortranarray(pixels)):
            found = model.segment(given)
            came = as_stored(found)
            assert came == [{key: row[key] for key in came[0]} for row in stored], (name, type(given))
            assert (found.width_px, found.height_px, found.frames) == (160, 120, 1)
            assert found.counts.kept == len(found)


def test_a_grey_array_may_have_a_third_axis_and_a_colour_one_an_alpha(in_process: Callable[[], None]) -> None:
    model = segsvc.load("bright", threads=1)
    grey, rgb = images()["grey.png"], images()["rgb.png"]
    assert model.segment(grey[:, :, None]) == model.segment(grey)
    assert model.segment(np.dstack([rgb, np.zeros_like(rgb[:, :, :1])])) == model.segment(rgb)


@pytest.mark.parametrize(("given", "words"), [
    (np.zeros((4, 4), np.int64), ("uint8", "int64")),
    (np.zeros((4, 4, 2), np.uint8), ("(H, W", "(4, 4, 2)")),
    (np.zeros((0, 4), np.uint8), ("(H, W", "(0, 4)")),
    (b"no picture", ("image of a known format",)),
    (b"", ("0 bytes",)),
    ("nowhere.png", ("No such file",)),
], ids=["int64", "two channels", "no pixels", "no picture", "no bytes", "no file"])
def test_what_is_no_image_raises_an_image_error_that_says_so(
    in_process: Callable[[], None], given: Any, words: tuple[str, ...],
) -> None:
    with pytest.raises(segsvc.ImageError) as raised:
        segsvc.load("bright", threads=1).segment(given)
    assert [word for word in words if word not in str(raised.value)] == []


def test_what_is_not_even_asked_for_rightly_raises_a_type_error(in_process: Callable[[], None]) -> None:
    with pytest.raises(TypeError, match="path, bytes or an array"):
        segsvc.load("bright", threads=1).segment(7)  # type: ignore[arg-type]


def test_an_unknown_model_is_answered_with_the_known_ones(in_process: Callable[[], None]) -> None:
    with pytest.raises(segsvc.UnknownName, match="Did you mean 'bright'"):
        segsvc.load("brihgt")


def test_an_opened_run_gives_arrow_tables_with_band_and_probability(place: Program) -> None:
    for out in (str(place.folder / "out"), (place.folder / "out").as_uri()):
        run = segsvc.open_run(out)
        found, candidates = run.images(), run.candidates()
        assert isinstance(found, pa.Table)
        assert found.schema.equals(IMAGES_SCHEMA)
        assert candidates.schema.equals(CANDIDATES_VIEW_SCHEMA)
        assert set(candidates["band"].to_pylist()) == {"rejected", "review", "accepted"} & set(
            candidates["band"].to_pylist()) != set()
        assert candidates["probability"].null_count == candidates.num_rows == sum(found["n_candidates"].to_pylist())


def test_opening_what_is_no_run_raises_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(segsvc.ConfigError, match=r"spec\.json"):
        segsvc.open_run(str(tmp_path))
