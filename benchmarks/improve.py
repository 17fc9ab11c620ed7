"""A new version of a model against the old one on a frozen test set: a worse one let in, a better one kept out.

Real handwritten digits (OpenCV's `digits.png`, Apache-2.0, as in `digits.py`), and models that learn them in milliseconds,
so that every trial can learn anew: the most frequent of the three nearest neighbours, by px. In each trial digits are dealt
out anew; an old model learns 40 a class, a worse one the same of which a share bears another's name, a better one 100. They
are asked about a test set and, for what is guessed beforehand, 140 others, and compared by the code of `segsvc improve`
with its defaults. What is truly worse is told by all digits that are left. The worst case is worse by the margin exactly:
it takes the worse model's outcomes for so many of all these digits, drawn by chance, and the old one's for the others; it
may be let in at one trial in twenty. Prints a JSON list of rows: how many of the trials let a worse one in, and how many
kept the better one out, for test sets of several sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from _common import Bound, Row, scratch, show
from digits import CLASSES, DIGITS, EACH, write_set

from segsvc.improving.comparing import FigureKind, compare

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MARGIN, CONFIDENCE = 0.02, 0.95
OLD_EACH, BETTER_EACH, NOISE, NEIGHBOURS = 40, 100, 0.2, 3
SIZES = (50, 100, 200, 400)
GUESSED_FROM = 140
MOST_LET_IN = 5
WORSE, AT_MARGIN, BETTER = "a worse model", "one that is worse by the margin exactly", "a better model"


@dataclass(frozen=True, slots=True)
class Trial:
    """(digits,) 1 where a model is right, of digits that none has learnt from, in an order drawn by chance."""

    old: Floats
    others: dict[str, Floats]


def right(px: Floats, labels: Ints, learnt: Ints, named: Ints, asked: Ints) -> Floats:
    """(asked,) whether the most frequent name among the nearest learnt digits is right; of a tie the nearest one's."""
    squares = (px[asked] ** 2).sum(axis=1)[:, None] + (px[learnt] ** 2).sum(axis=1) - 2 * px[asked] @ px[learnt].T
    nearest = named[np.argsort(squares, axis=1, kind="stable")[:, :NEIGHBOURS]]
    votes = (nearest[:, :, None] == nearest[:, None, :]).sum(axis=2)
    said = nearest[np.arange(len(asked)), votes.argmax(axis=1)]
    return (said == labels[asked]).astype(np.float64)


def trials(px: Floats, labels: Ints, *, n: int, seed: int) -> Iterator[Trial]:
    """Trials in which the worse model is worse by more than the margin and the better one better, by all digits left."""
    for number in range(n):
        random = np.random.default_rng((seed, number))
        dealt = np.concatenate([random.permutation(np.flatnonzero(labels == digit))[:, None].T for digit in range(CLASSES)])
        learnt, more = dealt[:, :OLD_EACH].ravel(), dealt[:, :BETTER_EACH].ravel()
        asked = random.permutation(dealt[:, BETTER_EACH:].ravel())
        noisy = labels[learnt].copy()
        changed = random.random(len(noisy)) < NOISE
        noisy[changed] = (noisy[changed] + random.integers(1, CLASSES, int(changed.sum()))) % CLASSES
        old = right(px, labels, learnt, labels[learnt], asked)
        worse, better = right(px, labels, learnt, noisy, asked), right(px, labels, more, labels[more], asked)
        if not ((worse - old).mean() < -MARGIN and (better - old).mean() > 0):
            raise ValueError(f"trial {number}: expected a worse model by more than {MARGIN} and a better one, got "
                             f"{(worse - old).mean():+.3f} and {(better - old).mean():+.3f}")
        order = random.permutation(len(asked))
        so_many = int(np.argmax(np.cumsum((worse - old)[order]) <= -MARGIN * len(asked))) + 1
        at_margin = old.copy()
        at_margin[order[:so_many]] = worse[order[:so_many]]
        yield Trial(old, {WORSE: worse, AT_MARGIN: at_margin, BETTER: better})


def is_let_in(old: Floats, new: Floats, *, units: int) -> bool:
    """Whether the new model is shown to be no worse by more than the margin, on so many digits."""
    tested, others = slice(0, units), slice(units, units + GUESSED_FROM)
    guess = float(np.mean((new[others] - old[others]) ** 2))
    return compare(old[tested], new[tested], kind=FigureKind.ACCURACY, unit="image", images=units, margin=MARGIN,
                   confidence=CONFIDENCE, guess=guess).not_worse


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Worse models let in, better ones kept out.")
    parser.add_argument("--digits", type=Path, default=DIGITS)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with scratch() as folder:
        write_set(given.digits, folder, seed=0)
        paths = sorted(folder.rglob("*.png"))
        px = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).ravel() for path in paths]).astype(np.float64) / 255
    labels = np.array([int(path.parent.name) for path in paths])
    if len(labels) != CLASSES * EACH:
        raise ValueError(f"expected {CLASSES * EACH} digits, got {len(labels)}")
    drawn = list(trials(px, labels, n=given.trials, seed=given.seed))
    rows = []
    for units in SIZES:
        for what in (WORSE, AT_MARGIN, BETTER):
            count = sum(is_let_in(trial.old, trial.others[what], units=units) for trial in drawn)
            gaps = [float((trial.others[what] - trial.old).mean()) for trial in drawn]
            details = {"trials": given.trials, "units": units, "mean_difference": float(np.mean(gaps)),
                       "least": min(gaps), "largest": max(gaps)}
            if what == BETTER:
                rows.append(Row(f"{what} kept out, {units} test images", given.trials - count, "trials", None, None, None,
                                None, None, Bound.OURS_AT_MOST, details))
            else:
                rows.append(Row(f"{what} let in, {units} test images", count, "trials", None, None, None, None,
                                given.trials * MOST_LET_IN / 100, Bound.OURS_AT_MOST, details))
    show(rows)


if __name__ == "__main__":
    main()
