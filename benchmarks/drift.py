"""The drift alarm: how often like images set it off, and how often blur, gamma and another magnification do, by strength.

A model's candidates are computed once for each image and each change of it. Then calibrations and runs of 300 images each
are drawn from these tables without an image in common, thousands of times, and compared as a run compares itself
(`quality.drift`, level 1 %). Three sources:

- real nuclei: windows of 128 px at random places of the right half of StarDist's img2d.tif (BSD-3-Clause), turned and
  mirrored by chance, and the packaged model `nuclei`, which never saw that half. It is one image of one microscope: what
  is measured is how the alarm fares on windows of it, not on other microscopes.
- real digits: the 4,200 of OpenCV's `digits.png` (Apache-2.0) that a classifier did not learn from, as in `digits.py`; it is
  trained here for six epochs.
- generated pictures of a few soft discs, and `nuclei`.

Prints a JSON list of rows. False alarms: `peer` is a Kolmogorov-Smirnov test of each trait at 1 % over their number. Of
units of five windows at one place, the peer is the same test with windows dealt one by one. Caught: a row a strength;
what is demanded is demanded from the strength in `CAUGHT_FROM` on. `details` has the share for other sizes and, for
digits, what becomes of the recall: the share of digits that reach thresholds which 95 % of those as they are reach. The
alarm knows only what the model says, so what leaves the scores as they are, and with them the recall, sets off none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from _common import Bound, Detail, Row, nuclei_picture, say, scratch, segsvc, show
from digits import DIGITS, write_set

from segsvc.loaded import ArraySource, available_cores
from segsvc.models.library import PACKAGED, read_model
from segsvc.models.runtime import Predictor
from segsvc.quality.drift import LEVEL, Sample, compare
from segsvc.quality.profile import MOST_CLASSES, UNDEFINED, Ints, Stored
from segsvc.readahead import in_order
from segsvc.segment import Stopwatch, segment_source
from segsvc.settings import settings
from segsvc.training.nuclei_data import read_image
from segsvc.types import Candidate, Runtime

CALIBRATION, RUN, SHORT_RUN, LARGE = 300, 300, 100, 1000
FALSE_ALARMS, CAUGHT = 0.015, 0.95
RECALL = 0.95
CHANGED_DRAWS, CHANGED_DIGITS = 200, 1200
UNITS, A_UNIT = 60, 5  # of either side, where windows come in units
WINDOW_PX, NEAR_PX, PICTURE_PX = 128, 16, 128
NUCLEI, DIGIT, GENERATED = "real nuclei", "real digits", "generated"

Picture = npt.NDArray[np.generic]  # (h, w), uint8 or uint16
Change = Callable[[Picture], Picture]


def blurred(sigma_px: float) -> Change:
    return lambda picture: cv2.GaussianBlur(picture, (0, 0), sigma_px)


def with_gamma(gamma: float) -> Change:
    """Darker between black and the type's white, for gamma above 1."""
    def change(picture: Picture) -> Picture:
        white = float(np.iinfo(picture.dtype).max)
        return np.rint((picture / white) ** gamma * white).astype(picture.dtype)

    return change


def magnified(times: float) -> Change:
    """The middle of a picture, as large as the picture was."""
    def change(picture: Picture) -> Picture:
        height, width = picture.shape
        h, w = round(height / times), round(width / times)
        y, x = (height - h) // 2, (width - w) // 2
        return cv2.resize(picture[y: y + h, x: x + w], (width, height), interpolation=cv2.INTER_LINEAR)

    return change


CHANGES: Mapping[str, tuple[Callable[[float], Change], Mapping[str, tuple[float, ...]]]] = {  # with strengths by source
    "blur, sigma in px": (blurred, {NUCLEI: (0.3, 0.5, 1.0), DIGIT: (0.3, 0.5, 0.7, 1.0), GENERATED: (0.5, 1.0)}),
    "gamma": (with_gamma, {NUCLEI: (1.1, 1.2, 1.5), DIGIT: (1.5, 2.0, 3.0, 4.0), GENERATED: (1.2, 1.5)}),
    "magnification": (magnified, {NUCLEI: (1.05, 1.1, 1.25), DIGIT: (1.1, 1.25, 1.5), GENERATED: (1.1, 1.25)})}
CAUGHT_FROM: Mapping[str, tuple[float, float, float]] = {  # the strengths that are to be caught, in the order of CHANGES
    NUCLEI: (0.5, 1.2, 1.1), DIGIT: (0.7, 4.0, 1.5), GENERATED: (0.5, 1.2, 1.1)}


@dataclass(frozen=True, slots=True)
class Changed:
    """What a model says of the first images of a table, changed. recall_kept: None where no truth is at hand."""

    change: str
    strength: float
    demanded: bool
    traits: Ints
    recall_kept: float | None


@dataclass(frozen=True, slots=True)
class Table:
    """Traits of images as they are, and of the first of them as they are changed, row by row."""

    source: str
    classes: tuple[str, ...]
    as_they_are: Ints
    changed: Sequence[Changed]


def answers(predictor: Predictor, pictures: Sequence[Picture]) -> list[tuple[Candidate, ...]]:
    """The candidates of each picture."""
    def one(picture: Picture) -> tuple[Candidate, ...]:
        return tuple(segment_source(ArraySource(np.ascontiguousarray(picture)), predictor, Stopwatch()))

    return list(in_order(one, pictures, at_once=available_cores()))


def table(source: str, predictor: Predictor, pictures: Sequence[Picture], n_changed: int,
          shown: Sequence[str] = ()) -> Table:
    """shown: the class that each picture shows, where that is known."""
    names = predictor.card.class_names
    classes = tuple(names[:MOST_CLASSES]) if len(names) > 1 else ()
    said = answers(predictor, pictures)
    changed = []
    for place, (change, (of_strength, strengths)) in enumerate(CHANGES.items()):
        for strength in strengths[source]:
            found = answers(predictor, list(map(of_strength(strength), pictures[:n_changed])))
            changed.append(Changed(change, strength, strength >= CAUGHT_FROM[source][place],
                                   Stored.of(found).traits(classes), recall_kept(said, found, shown) if shown else None))
    say(f"{source}: {len(pictures)} pictures as they are, {n_changed} changed in {len(changed)} ways")
    return Table(source, classes, Stored.of(said).traits(classes), changed)


def recall_kept(as_they_are: Sequence[tuple[Candidate, ...]], changed: Sequence[tuple[Candidate, ...]],
                shown: Sequence[str]) -> float:
    """The share of changed pictures whose class reaches the score that RECALL of the pictures as they are reach."""
    def scores(said: Sequence[tuple[Candidate, ...]]) -> npt.NDArray[np.float64]:
        return np.array([max((each.score for each in candidates if each.class_name == name), default=0.0)
                         for candidates, name in zip(said, shown, strict=False)])

    names, of_all = np.array(shown), scores(as_they_are)
    flag_at = {name: np.quantile(of_all[names == name], 1 - RECALL, method="lower") for name in sorted(set(shown))}
    return float(np.mean([score >= flag_at[name] for score, name in zip(scores(changed), shown, strict=False)]))


# -- pictures ------------------------------------------------------------------------------------------------------------


def window(half: Picture, x: int, y: int, random: np.random.Generator) -> Picture:
    """The window at that place, held inside, turned and mirrored by chance."""
    y, x = (int(np.clip(place, 0, side - WINDOW_PX)) for place, side in zip((y, x), half.shape, strict=True))
    seen = np.rot90(half[y: y + WINDOW_PX, x: x + WINDOW_PX], int(random.integers(4)))
    return np.ascontiguousarray(seen[:, ::-1] if random.integers(2) else seen)


def windows(half: Picture, n: int, seed: int) -> list[Picture]:
    random = np.random.default_rng((seed, 0))
    places = [(int(random.integers(half.shape[1] - WINDOW_PX + 1)), int(random.integers(half.shape[0] - WINDOW_PX + 1)))
              for _ in range(n)]
    return [window(half, x, y, random) for x, y in places]


def neighbouring_windows(half: Picture, n_units: int, seed: int) -> list[Picture]:
    """A_UNIT windows for each of n_units places, one place after the other."""
    random = np.random.default_rng((seed, 1))
    found = []
    for _ in range(n_units):
        x, y = int(random.integers(half.shape[1] - WINDOW_PX + 1)), int(random.integers(half.shape[0] - WINDOW_PX + 1))
        for _ in range(A_UNIT):
            dx, dy = random.integers(-NEAR_PX, NEAR_PX + 1, 2).tolist()
            found.append(window(half, x + dx, y + dy, random))
    return found


def digits_table(digits: Path, model: Path | None, n_changed: int, seed: int) -> Table:
    with scratch() as folder:
        write_set(digits, folder / "data", seed=seed)
        if model is None:
            (folder / "data" / "test").rename(folder / "test")
            segsvc("train", folder / "data", "--task", "classification", "--epochs", "6", "--out", folder / "model",
                   "--seed", str(seed))
            (folder / "test").rename(folder / "data" / "test")
            model = folder / "model"
        files = sorted((folder / "data" / "test").rglob("*.png"))
        shuffled = np.random.default_rng((seed, 2)).permutation(len(files)).tolist()
        pictures = [cv2.imread(str(files[number]), cv2.IMREAD_GRAYSCALE) for number in shuffled]
        predictor = Predictor(read_model(model), Runtime.OPENVINO, threads=available_cores())
        return table(DIGIT, predictor, pictures, n_changed, [files[number].parent.name for number in shuffled])


# -- draws ---------------------------------------------------------------------------------------------------------------


def bonferroni(there: Ints, here: Ints) -> bool:
    """Whether a Kolmogorov-Smirnov test of any trait, each at LEVEL over their number, sees a difference."""
    from scipy.stats import ks_2samp

    columns = [(a[a != UNDEFINED], b[b != UNDEFINED]) for a, b in zip(there.T, here.T, strict=True)]
    return any(len(a) and len(b) and ks_2samp(a, b, method="asymp").pvalue <= LEVEL / len(columns) for a, b in columns)


def single(rows: Ints) -> Sample:
    return Sample(np.arange(len(rows)), rows)


def counted(one: Callable[[int], tuple[bool, ...]], draws: int) -> tuple[float, ...]:
    """The share of draws, numbered from 0, in which each of what `one` says is true."""
    return tuple(np.mean(list(in_order(one, range(draws), at_once=available_cores())), axis=0).tolist())


def false_alarms(found: Table, draws: int) -> Row:
    def one(number: int) -> tuple[bool, bool]:
        drawn = np.random.default_rng((number, 3)).permutation(len(found.as_they_are))
        there, here = found.as_they_are[drawn[:CALIBRATION]], found.as_they_are[drawn[CALIBRATION: CALIBRATION + RUN]]
        return compare(single(there), single(here), found.classes, seed=number).in_doubt, bonferroni(there, here)

    ours, peer = counted(one, draws)
    return row(f"false alarms on like images: {found.source}", ours, peer, "Kolmogorov-Smirnov, Bonferroni",
               FALSE_ALARMS, Bound.OURS_AT_MOST, {"draws": draws, "calibration": CALIBRATION, "run": RUN,
                                                  "images": len(found.as_they_are)})


def false_alarms_of_units(rows: Ints, draws: int) -> Row:
    """rows: A_UNIT for each unit, one unit after the other."""
    units = rows.reshape(-1, A_UNIT, rows.shape[1])
    number_of = np.repeat(np.arange(UNITS), A_UNIT)

    def one(number: int) -> tuple[bool, bool]:
        drawn = np.random.default_rng((number, 4)).permutation(len(units))
        there, here = (units[part].reshape(-1, rows.shape[1]) for part in (drawn[:UNITS], drawn[UNITS: 2 * UNITS]))
        return (compare(Sample(number_of, there), Sample(number_of, here), (), seed=number).in_doubt,
                compare(single(there), single(here), (), seed=number).in_doubt)

    whole, one_by_one = counted(one, draws)
    return row("false alarms on like units: real nuclei, windows near each other", whole, one_by_one,
               "windows dealt one by one", FALSE_ALARMS, Bound.OURS_AT_MOST,
               {"draws": draws, "units_a_side": UNITS, "windows_a_unit": A_UNIT, "units": len(units)})


def caught(found: Table, changed: Ints, draws: int, *, n_run: int = RUN, n_calibration: int = CALIBRATION) -> float:
    """The share of runs of changed images that set the alarm off; no image of them is in the calibration."""
    def one(number: int) -> tuple[bool]:
        random = np.random.default_rng((number, 5))
        here = random.permutation(len(changed))[:n_run]
        there = random.permutation(np.setdiff1d(np.arange(len(found.as_they_are)), here))[:n_calibration]
        return (compare(single(found.as_they_are[there]), single(changed[here]), found.classes, seed=number).in_doubt,)

    return counted(one, draws)[0]


def caught_row(found: Table, changed: Changed, draws: int) -> Row:
    details: dict[str, Detail] = {"draws": draws, "calibration": CALIBRATION, "run": RUN, "images": len(changed.traits),
                                  f"caught in runs of {SHORT_RUN}": caught(found, changed.traits, draws, n_run=SHORT_RUN)}
    if len(changed.traits) > LARGE:
        details[f"caught in runs of {LARGE}, calibration of as many"] = caught(
            found, changed.traits, draws // 2, n_run=LARGE, n_calibration=LARGE)
    if changed.recall_kept is not None:
        details[f"recall at thresholds for {RECALL:g}"] = round(changed.recall_kept, 3)
    return row(f"caught: {changed.change} {changed.strength:g}: {found.source}", caught(found, changed.traits, draws), None,
               None, CAUGHT if changed.demanded else None, Bound.OURS_AT_LEAST, details)


def row(figure: str, ours: float, peer: float | None, peer_name: str | None, demanded: float | None, bound: Bound,
        details: Mapping[str, Detail]) -> Row:
    say(f"{figure}: {ours:.4f}" + (f" ({peer_name}: {peer:.4f})" if peer is not None else ""))
    return Row(figure, ours, "share", peer, peer_name, None, None, demanded, bound, details)


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The drift alarm: false alarms, and what is caught.")
    parser.add_argument("--draws", type=int, default=2500, help=f"for false alarms; {CHANGED_DRAWS} for each change")
    parser.add_argument("--images", type=int, default=1200, help="windows and generated pictures; half are changed")
    parser.add_argument("--digits", type=Path, default=DIGITS)
    parser.add_argument("--model", type=Path,
                        help="a classifier of digits that learnt the same 800; by default it is trained")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not given.digits.is_file():
        parser.error(f"expected digits.png at {given.digits}: install Debian's opencv-doc, or name it by --digits")
    half = read_image(settings().assets_dir)[0][:, 256:]
    nuclei = Predictor(read_model(PACKAGED / "nuclei"), Runtime.OPENVINO, threads=available_cores())
    n_changed = max(RUN, given.images // 2)
    tables = [
        table(NUCLEI, nuclei, windows(half, given.images, given.seed), n_changed),
        digits_table(given.digits, given.model, CHANGED_DIGITS, given.seed),
        table(GENERATED, nuclei, [nuclei_picture(number, PICTURE_PX) for number in range(given.images)], n_changed)]
    near = Stored.of(answers(nuclei, neighbouring_windows(half, 5 * UNITS, given.seed))).traits(())
    rows = [false_alarms(each, given.draws) for each in tables]
    rows.append(false_alarms_of_units(near, given.draws))
    rows += [caught_row(found, each, min(given.draws, CHANGED_DRAWS)) for found in tables for each in found.changed]
    show(rows)


if __name__ == "__main__":
    main()
