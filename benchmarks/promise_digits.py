"""A recall that was promised on real digits, and what came of it: "flag every 7" at 0.98, 200 times.

A classifier learns 80 handwritten digits a class (OpenCV's `digits.png`, Apache-2.0, as in `digits.py`) and is run over
the other 4,200. These are cut in two at random 200 times: on one half, with some 210 sevens, a threshold is calibrated as
`segsvc calibrate --class 7 --recall 0.98` does; on the other the sevens that are flagged are counted. Prints a JSON list of
two rows: the share of the calibrations whose threshold keeps 0.98 on the other half, and the load, flagged digits for each
seven.

The other half is a sample too: a threshold that is good for all digits may miss 0.98 there by chance. `details` has the
share of calibrations whose threshold keeps 0.98 on all 4,200 digits.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import Bound, Row, scratch, segsvc, show
from digits import CLASSES, DIGITS, EACH, LEARNT, write_set

import segsvc as library
from segsvc.calibration.choosing import Targets, choose
from segsvc.quality.found import NOT_FOUND
from segsvc.quality.thresholds import Tally

SEVEN, RECALL, CONFIDENCE = 7, 0.98, 0.95
SHARE = 0.93


def tally(scores: np.ndarray, is_seven: np.ndarray) -> Tally:
    """Each digit is a unit with one candidate where a score is stored; scores (n,), NOT_FOUND where none is."""
    stored = np.flatnonzero(scores != NOT_FOUND)
    sevens = np.flatnonzero(is_seven)
    return Tally(len(scores), sevens, scores[sevens], stored, scores[stored], is_seven[stored])


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="A recall that was promised on real digits.")
    parser.add_argument("--digits", default=str(DIGITS))
    parser.add_argument("--calibrations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model",
                        help="a model that was trained on the same 80 digits a class; by default it is trained now")
    given = parser.parse_args()
    with scratch() as folder:
        write_set(type(DIGITS)(given.digits), folder / "data", seed=given.seed)
        model = given.model or folder / "model"
        if given.model is None:
            segsvc("train", folder / "data", "--task", "classification", "--out", model, "--seed", str(given.seed))
        segsvc("run", folder / "data" / "test", "--model", model, "--out", folder / "out")
        run = library.open_run(str(folder / "out"))
        images, candidates = run.images().to_pydict(), run.candidates().to_pydict()
    of_seven = {image: score for image, name, score in zip(
        candidates["image_id"], candidates["class_name"], candidates["score"], strict=True) if name == str(SEVEN)}
    scores = np.array([of_seven.get(image, NOT_FOUND) for image in images["image_id"]])
    is_seven = np.array([uri.split("/")[-2] == str(SEVEN) for uri in images["image_uri"]])
    if len(scores) != CLASSES * (EACH - LEARNT):
        raise ValueError(f"expected {CLASSES * (EACH - LEARNT)} digits, got {len(scores)}")
    kept, kept_of_all, loads, none = [], [], [], 0
    for number in range(given.calibrations):
        half = np.random.default_rng((given.seed, number)).permutation(len(scores)) < len(scores) // 2
        choice = choose([str(SEVEN)], [tally(scores[half], is_seven[half])], Targets(RECALL, 0.95, CONFIDENCE),
                        images=int(half.sum()), seed=number, demands_precision=False)
        none += not choice.thresholds
        flag_at = choice.thresholds[str(SEVEN)].flag_at if choice.thresholds else 0.0
        other = ~half
        kept.append(bool((scores[other & is_seven] >= flag_at).mean() >= RECALL))
        kept_of_all.append(bool((scores[is_seven] >= flag_at).mean() >= RECALL))
        loads.append(float((scores[other] >= flag_at).sum() / is_seven[other].sum()))
    oracle = np.sort(scores[is_seven])[int((1 - RECALL) * is_seven.sum())]
    least = float((scores >= oracle).sum() / is_seven.sum())
    details = {"calibrations": given.calibrations, "share_on_all_digits": float(np.mean(kept_of_all)),
               "nothing_could_be_shown": none, "sevens_a_half": int(is_seven.sum() / 2)}
    show([Row(f"flag every 7 at {RECALL}: calibrations that keep it on the other half", float(np.mean(kept)), "share", None,
              None, None, None, SHARE, Bound.OURS_AT_LEAST, details),
          Row("flagged digits for each seven; an oracle's least", float(np.mean(loads)), "digits", least,
              "the threshold that all sevens give", float(np.mean(loads)) / least, None, None, Bound.OURS_AT_MOST, {})])


if __name__ == "__main__":
    main()
