"""One image in memory: tiled as if whole, in bounded memory, and with the depth, frames and classes that it has."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
import tifffile

from segsvc.card import Activation, ClassNode, Extraction, IntensityScale, ModelCard, Normalisation, Resize, Task
from segsvc.imaging.intensity import affine, to_input
from segsvc.imaging.regions import extract_regions, in_order
from segsvc.imaging.tiling import BandMerger, plan_tiles
from segsvc.loaded import ArraySource, BytesBlob
from segsvc.models.library import PACKAGED, Model, read_model
from segsvc.models.runtime import Predictor
from segsvc.readers import ReadLimits, open_source
from segsvc.segment import Stopwatch, segment_source
from segsvc.types import SCORE_ONE, Box, CandidateKind, ExtractionCounts, PixelArray, Runtime, ScoreArray, Segmentation
from tests.conftest import write_model
from tests.networks import write_network

pytestmark = pytest.mark.usefixtures("in_process")
EVERYTHING = Extraction(extent_min=0.5, floor=0.5, min_area_px=1)


def found(model: Model, image: PixelArray | bytes, *, threads: int = 2) -> Segmentation:
    """What the model finds, computed by PyTorch."""
    source = open_source(BytesBlob(image), ReadLimits()) if isinstance(image, bytes) else ArraySource(image)
    predictor = Predictor(model, Runtime.TORCH_CPU, threads=threads)
    try:
        return segment_source(source, predictor, Stopwatch())
    finally:
        predictor.close()


def scores_at_once(model: Model, image: PixelArray) -> ScoreArray:
    """(h, w) scores of a model that answers px by px, of the whole image in one piece."""
    predictor = Predictor(model, Runtime.TORCH_CPU, threads=1)
    scale = affine(model.card.normalisation, dtype=image.dtype, sample=None)
    scores = predictor.submit(to_input(image[:, :, None], scale)).result().scores
    predictor.close()
    return np.asarray(scores[0], np.uint16)


def score_map(predictor: Predictor, image: PixelArray, *, tile_px: int, overlap_px: int) -> ScoreArray:
    """(h, w) scores of the first class, merged from tiles of that size."""
    from segsvc.segment import _tile_scores

    source = ArraySource(image)
    plan = plan_tiles(source.width_px, source.height_px, tile_px=tile_px, overlap_px=overlap_px, stride_px=32)
    merger = BandMerger(plan, classes=1)
    scores = _tile_scores(source, predictor, plan, 0, Stopwatch())
    whole: ScoreArray = np.concatenate([merger.row(scores, row) for row in range(plan.rows)], axis=1)[0]
    return whole


def linear_model(folder: Path, outputs: Sequence[tuple[float, float]], **fields: Any) -> Model:
    """A model of the family `brightness` whose outputs are weight * value + bias of one channel, for each output."""
    card = write_model(folder, classes=tuple("abcdef"[: len(outputs) - bool(fields.get("background"))]),
                       extraction=EVERYTHING)
    weights = safetensors.numpy.save({
        "weight": np.array([weight for weight, _ in outputs], np.float32).reshape(-1, 1, 1, 1),
        "bias": np.array([bias for _, bias in outputs], np.float32)})
    import hashlib

    changed = card.model_copy(update={**fields, "weights_sha256": hashlib.sha256(weights).hexdigest()})
    (folder / card.name / "model.safetensors").write_bytes(weights)
    (folder / card.name / "card.json").write_text(changed.to_json())
    return read_model(folder / card.name)


# -- seams -----------------------------------------------------------------------------------------------------------


def nuclei_image(seed: int, side_px: int) -> npt.NDArray[np.uint8]:
    """Bright blurred ellipses on a dark noisy ground: what the packaged model knows."""
    random = np.random.default_rng(seed)
    image = np.zeros((side_px, side_px), np.float32)
    for _ in range(side_px * side_px // 1500):
        centre, axes = random.integers(0, side_px, 2), random.integers(5, 13, 2)
        one = cv2.ellipse(np.zeros_like(image), centre.tolist(), axes.tolist(), float(random.integers(0, 180)), 0, 360,
                          float(random.uniform(0.2, 1)), -1)
        image = np.maximum(image, one)
    blurred = cv2.GaussianBlur(image, (0, 0), 1.2) * 120 + 30
    return np.asarray(np.clip(blurred + random.normal(0, 6, image.shape), 0, 255), np.uint8)


def jumps(difference: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """How much the difference of two maps changes from px to px across each line that runs along the other axis."""
    return np.asarray(np.abs(np.diff(difference, axis=axis)).mean(axis=1 - axis))


@pytest.fixture(scope="module")
def tiled_and_whole() -> Iterator[Callable[[int], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]]:
    """Scores in [0, 1] of an image in one tile of 512 px, and in tiles of 256 px with the given overlap."""
    predictor = Predictor(read_model(PACKAGED / "nuclei"), Runtime.TORCH_CPU, threads=2)
    image = nuclei_image(5, 512)
    whole = score_map(predictor, image, tile_px=512, overlap_px=64) / SCORE_ONE

    def both(overlap_px: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return score_map(predictor, image, tile_px=256, overlap_px=overlap_px) / SCORE_ONE, whole

    yield both
    predictor.close()


def test_scores_of_overlapping_tiles_are_nearly_those_of_the_whole_image(
        tiled_and_whole: Callable[[int], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> None:
    tiled, whole = tiled_and_whole(64)
    assert 0.05 < (whole > 0.5).mean() < 0.5
    difference = np.abs(tiled - whole)
    assert difference.max() < 0.25
    assert difference.mean() < 0.001
    assert ((tiled > 0.5) != (whole > 0.5)).mean() < 0.001


def test_no_seam_shows_where_tiles_meet(
        tiled_and_whole: Callable[[int], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> None:
    tiled, whole = tiled_and_whole(64)
    for axis in (0, 1):
        across = jumps(tiled - whole, axis)
        assert across.max() < 10 * across.mean()
        assert across.max() < 0.15 * jumps(whole, axis).mean()
    hard, whole = tiled_and_whole(0)  # without an overlap there is a seam, and this measure shows it
    across = jumps(hard - whole, 1)
    assert int(np.argmax(across)) in (255, 256, 257)
    assert across.max() > 20 * across.mean()


# -- regions across bands and tiles --------------------------------------------------------------------------------------


def rings_and_combs(width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
    """Shapes that cross many bands: nested rings, a comb, a spiral, and specks between them."""
    image = np.random.default_rng(0).integers(0, 100, (height_px, width_px)).astype(np.uint8)
    centre = width_px // 2, height_px // 2
    for inset, value in ((2, 200), (12, 255), (25, 170)):
        cv2.ellipse(image, centre, (width_px // 2 - inset, height_px // 2 - inset), 0, 0, 360, value, 2)
    for x in range(40, width_px - 40, 9):
        image[height_px // 4: 3 * height_px // 4, x: x + 3] = 180 + x % 60
    image[3 * height_px // 4 - 4: 3 * height_px // 4, 40: width_px - 40] = 210
    image[::97, ::13] = 240
    image[:, 0] = 230
    image[20:24, 4:8] = 140
    return image


@pytest.mark.parametrize(("width_px", "height_px", "tile_px", "overlap_px"), [
    (200, 3000, 64, 16), (200, 3000, 96, 48), (150, 40, 64, 16), (1, 500, 32, 0), (500, 1, 32, 8), (1, 1, 64, 16),
    (131, 1789, 128, 0)])
def test_regions_of_many_bands_and_tiles_are_those_of_the_whole_map_to_the_byte(
        tmp_path: Path, width_px: int, height_px: int, tile_px: int, overlap_px: int) -> None:
    extraction = Extraction(extent_min=0.5, floor=0.9, min_area_px=2)
    write_model(tmp_path, extraction=extraction, tile_px=tile_px, overlap_px=overlap_px)
    model = read_model(tmp_path / "bright")
    image = (rings_and_combs(width_px, height_px) if min(width_px, height_px) > 100 else
             np.random.default_rng(1).integers(0, 256, (height_px, width_px)).astype(np.uint8))
    segmentation = found(model, image)
    wanted, counts = extract_regions(scores_at_once(model, image), extraction=extraction, class_name="bright")
    assert segmentation.counts == counts
    assert [candidate.mask_rle for candidate in segmentation] == [candidate.mask_rle for candidate in wanted]
    assert segmentation.candidates == wanted
    if height_px == 3000:
        assert any(candidate.box.height_px > 20 * tile_px for candidate in wanted)
        assert counts.below_floor > 0


def test_candidates_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    write_model(tmp_path)
    model = read_model(tmp_path / "bright")
    image = rings_and_combs(300, 700)
    one, two, four = (found(model, image, threads=threads) for threads in (1, 2, 4))
    assert one == two == four
    assert len(one) > 1


# -- a large image ---------------------------------------------------------------------------------------------------


PROGRAM = """
import json, pathlib, sys, time
from segsvc.loaded import load_model
model = load_model(sys.argv[1], threads=2)
begun = time.perf_counter()
found = model.segment(sys.argv[2])
status = pathlib.Path("/proc/self/status").read_text()  # ru_maxrss would begin with what the parent held
peak_kib = int(status.split("VmHWM:")[1].split()[0])
print(json.dumps({"boxes": [[c.box.x0, c.box.y0, c.box.x1, c.box.y1, c.area_px] for c in found],
                  "seconds": time.perf_counter() - begun, "size": [found.width_px, found.height_px],
                  "peak_bytes": peak_kib * 1024}))
"""


def write_large_tiff(path: Path, side_px: int, boxes: list[Box]) -> None:
    """A tiled, deflated TIFF of dark px that is white in the boxes; tile by tile, so that the test needs no memory."""
    tile_px = 1024
    dark = np.full((tile_px, tile_px), 20, np.uint8)

    def tiles() -> Iterator[npt.NDArray[np.uint8]]:
        for y in range(0, side_px, tile_px):
            for x in range(0, side_px, tile_px):
                tile = dark.copy()
                for box in boxes:
                    tile[max(0, box.y0 - y): max(0, box.y1 - y), max(0, box.x0 - x): max(0, box.x1 - x)] = 255
                yield tile

    with tifffile.TiffWriter(path) as writer:
        writer.write(tiles(), shape=(side_px, side_px), dtype=np.uint8, tile=(tile_px, tile_px), compression="zlib",
                     compressionargs={"level": 1}, photometric="minisblack")


@pytest.mark.slow
def test_a_tiff_of_20000_px_by_20000_px_is_segmented_in_less_than_1500_mb(tmp_path: Path,
                                                                           environment: dict[str, str]) -> None:
    side_px = 20_000
    boxes = sorted([
        Box(0, 0, 30, 40), Box(19_950, 19_960, 20_000, 20_000), Box(10_000, 0, 10_003, 20_000), Box(300, 9_000, 900, 9_900),
        Box(440, 500, 520, 520), Box(12_000, 447, 12_040, 1_400), Box(15_000, 15_000, 15_001, 15_004),
        Box(50, 12_345, 9_000, 12_350)])
    write_large_tiff(tmp_path / "large.tif", side_px, boxes)
    write_model(tmp_path / "models", name="large", tile_px=512, overlap_px=64)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "models" / "large"), str(tmp_path / "large.tif")]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert process.returncode == 0, process.stderr
    answer = json.loads(process.stdout)
    assert answer["size"] == [side_px, side_px]
    assert answer["boxes"] == [[box.x0, box.y0, box.x1, box.y1, box.area_px] for box in boxes]
    assert answer["peak_bytes"] < 1_500_000_000


# -- depth -----------------------------------------------------------------------------------------------------------


def test_what_is_in_the_low_bits_of_16_bit_grey_is_found_as_in_its_stretched_version(tmp_path: Path) -> None:
    stretch = Normalisation(scale=IntensityScale.PERCENTILE, low_percentile=0, high_percentile=100, mean=(0.0,), std=(1.0,))
    model = linear_model(tmp_path, [(20, -10)], normalisation=stretch)
    steps = np.random.default_rng(2).integers(0, 40, (90, 200))
    steps[20:50, 30:90] += 60
    low_bits = (steps + 300).astype(np.uint16)  # less than one step of 8 bit
    stretched = ((steps - steps.min()) / np.ptp(steps)).astype(np.float32)
    deep, wide = found(model, low_bits), found(model, stretched)
    assert [candidate.box for candidate in deep] == [Box(30, 20, 90, 50)]
    assert [(candidate.box, candidate.mask_rle) for candidate in deep] == [
        (candidate.box, candidate.mask_rle) for candidate in wide]
    assert deep.candidates[0].mean_score == pytest.approx(wide.candidates[0].mean_score, abs=2e-5)
    assert len(found(model, (low_bits >> 8).astype(np.uint8))) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_of_every_type_is_found_with_the_same_score(tmp_path: Path, dtype: type[np.generic]) -> None:
    model = linear_model(tmp_path, [(20, -10)])
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[np.dtype(dtype).name]
    image = np.zeros((50, 50), dtype)
    image[10:20, 15:35] = white
    (one,) = found(model, image)
    assert one.box == Box(15, 10, 35, 20)
    assert one.score == round(SCORE_ONE / (1 + np.exp(-10))) / SCORE_ONE


def test_a_constant_image_on_a_percentile_scale_gives_nothing(tmp_path: Path) -> None:
    stretch = Normalisation(scale=IntensityScale.PERCENTILE, mean=(0.0,), std=(1.0,))
    model = linear_model(tmp_path, [(20, -10)], normalisation=stretch)
    for value in (0, 77, 255):
        assert len(found(model, np.full((70, 30), value, np.uint8))) == 0


def test_no_data_in_a_float_image_does_not_hide_what_is_beside_it(tmp_path: Path) -> None:
    stretch = Normalisation(scale=IntensityScale.PERCENTILE, low_percentile=0, high_percentile=100, mean=(0.0,), std=(1.0,))
    model = linear_model(tmp_path, [(20, -10)], normalisation=stretch)
    image = np.zeros((60, 60), np.float32)
    image[30:40, 30:40] = 900.0
    image[:20] = np.nan
    assert [candidate.box for candidate in found(model, image)] == [Box(30, 30, 40, 40)]


def test_the_percentiles_of_a_large_image_come_from_boxes_all_over_it(tmp_path: Path) -> None:
    stretch = Normalisation(scale=IntensityScale.PERCENTILE, low_percentile=1, high_percentile=99, mean=(0.0,), std=(1.0,))
    model = linear_model(tmp_path, [(20, -10)], normalisation=stretch, tile_px=512, overlap_px=64)
    image = np.full((2200, 2100), 1000, np.uint16)
    image[:, 1900:] = 1010
    (one,) = found(model, image)
    assert one.box == Box(1900, 0, 2100, 2200)


# -- frames and classes ----------------------------------------------------------------------------------------------


def test_every_page_of_a_tiff_is_a_frame_with_its_own_candidates(tmp_path: Path) -> None:
    model = linear_model(tmp_path, [(20, -10)])
    pages = np.zeros((3, 40, 60), np.uint8)
    pages[0, 5:10, 5:10] = 255
    pages[2, 20:30, 30:50] = 255
    pages[2, 1:4, 1:4] = 255
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pages, photometric="minisblack")
    segmentation = found(model, buffer.getvalue())
    assert segmentation.frames == 3
    assert [(candidate.frame, candidate.box) for candidate in segmentation] == [
        (0, Box(5, 5, 10, 10)), (2, Box(1, 1, 4, 4)), (2, Box(30, 20, 50, 30))]
    assert segmentation.counts == ExtractionCounts(kept=3)


def test_classes_are_judged_one_by_one_and_their_regions_may_overlap(tmp_path: Path) -> None:
    model = linear_model(tmp_path, [(40, -12), (20, -10), (-40, 4)])  # above 0.3, above 0.5, below 0.1
    image = np.full((64, 200), 51, np.uint8)
    image[10:40, 20:60] = 102
    image[15:25, 30:50] = 255
    image[50:60, 100:120] = 0
    segmentation = found(model, image)
    assert [(candidate.class_name, candidate.box) for candidate in segmentation] == [
        ("a", Box(20, 10, 60, 40)), ("b", Box(30, 15, 50, 25)), ("c", Box(100, 50, 120, 60))]
    assert list(segmentation) == list(in_order(segmentation))


def test_a_softmax_with_a_background_judges_the_other_classes(tmp_path: Path) -> None:
    model = linear_model(tmp_path, [(0, 0), (40, -20), (-40, 8)], background=True, activation=Activation.SOFTMAX)
    assert model.card.class_names == ("a", "b")
    image = np.full((40, 90), 100, np.uint8)
    image[5:15, 10:30] = 255
    image[20:30, 50:80] = 0
    segmentation = found(model, image)
    assert [(candidate.class_name, candidate.box) for candidate in segmentation] == [
        ("a", Box(10, 5, 30, 15)), ("b", Box(50, 20, 80, 30))]
    raw = np.exp([0.0, 20.0, -32.0])
    assert segmentation.candidates[0].score == pytest.approx(raw[1] / raw.sum(), abs=1e-5)


def test_colour_reaches_a_model_of_three_channels_and_grey_is_repeated_for_it(tmp_path: Path) -> None:
    write_model(tmp_path, channels=3, extraction=EVERYTHING)
    model = read_model(tmp_path / "bright")
    image = np.zeros((40, 40, 3), np.uint8)
    image[5:10, 5:10] = 255
    image[20:30, 20:30, 0] = 255  # red alone: a third of white
    boxes = [candidate.box for candidate in found(model, image)]
    assert boxes == [Box(5, 5, 10, 10)]
    assert [candidate.box for candidate in found(model, image[:, :, 1])] == boxes


# -- classification --------------------------------------------------------------------------------------------------


def classifier(folder: Path, **fields: Any) -> Model:
    base: dict[str, Any] = {
        "name": "tiny", "family": "classifier", "task": Task.CLASSIFICATION, "arch": "test_efficientnet",
        "classes": tuple(ClassNode(name=each) for each in ("dog", "cat", "cow", "ant")), "activation": Activation.SOFTMAX,
        "weights_sha256": "0" * 64, "licence": "Apache-2.0", "resize": Resize(shorter_side_px=80, crop_px=64),
        "extraction": Extraction(extent_min=0.0, floor=0.0)}
    return write_network(folder, ModelCard.model_validate({**base, **fields}))


def test_a_classifier_answers_with_whole_images_without_masks(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    segmentation = found(classifier(tmp_path), image)
    assert [candidate.class_name for candidate in segmentation] == ["ant", "cat", "cow", "dog"]
    assert sum(candidate.score for candidate in segmentation) == pytest.approx(1, abs=1e-4)
    for candidate in segmentation:
        assert candidate.kind is CandidateKind.IMAGE
        assert candidate.mask_rle is None
        assert (candidate.box, candidate.area_px) == (Box(0, 0, 120, 90), 120 * 90)
        assert candidate.mean_score == candidate.score
        assert candidate.touches_edge


def test_of_a_classifiers_classes_the_best_top_k_from_the_floor_on_are_kept_and_the_others_counted(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (70, 70, 3)).astype(np.uint8)
    every = sorted(found(classifier(tmp_path), image), key=lambda candidate: -candidate.score)
    two = found(classifier(tmp_path, extraction=Extraction(extent_min=0, floor=0, top_k=2)), image)
    assert {candidate.class_name for candidate in two} == {candidate.class_name for candidate in every[:2]}
    assert [candidate.class_name for candidate in two] == sorted(candidate.class_name for candidate in two)
    floor = every[1].score
    above = found(classifier(tmp_path, extraction=Extraction(extent_min=0, floor=floor)), image)
    assert {candidate.class_name for candidate in above} == {candidate.class_name for candidate in every[:2]}
    assert above.counts == ExtractionCounts(kept=2, below_floor=2)
    none = found(classifier(tmp_path, extraction=Extraction(extent_min=0, floor=1.0)), image)
    assert len(none) == 0


def test_a_classifier_of_many_labels_judges_them_one_by_one(tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(0, 256, (64, 64), dtype=np.uint16)
    scores = [candidate.score for candidate in found(classifier(tmp_path, activation=Activation.SIGMOID), image)]
    assert len(scores) == 4
    assert sum(scores) != pytest.approx(1, abs=1e-3)
