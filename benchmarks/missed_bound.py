"""The bound on what rules missed, on 1,000 simulated runs through the real draw, with all of the audit read and with a part.

Generated runs: one to four classes of 50 to 20,000 candidates that a rule rejected, of which none to a third are objects.
`ledger.selecting.select_part` draws the audit from their ids. What is read is read right. In half of the runs all is; in the
others a reader stops somewhere, and puts what shows an object off to the end, which is the worst that reading in an order of
one's own can do. A run is right if no bound, of a class or of all together, lies below the truth; asked for are 95 %.

A law that bounds are sharp for comes beside them: one class, where the number of objects is the one whose bounds fail most
often. The peer is the binomial bound for independent draws (Clopper and Pearson) on what was read: how much higher it is.
Prints a JSON list of rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from _common import Bound, Row, say, show
from scipy.stats import hypergeom

from segsvc.ledger.selecting import select_part
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.quality.bounds import most_members, most_share
from segsvc.quality.missed import Audited, Missed, bound_missed
from segsvc.types import Band

CONFIDENCE = 0.95
RUNS = 1000
SHARES = (0.01, 0.05, 0.2, 0.5)  # of the rejected ones that are drawn
POINT = OperatingPoint(basis=Basis.BY_HAND, classes={"*": ClassThresholds(flag_at=0.3)})
SHARP_CANDIDATES, SHARP_SHARE = 400, 0.2


def ids(count: int, draw: np.random.Generator) -> list[str]:
    """Ids as candidates have them: hashes."""
    text = draw.bytes(16 * count).hex()
    return [text[32 * place:32 * place + 32] for place in range(count)]


def rejected(classes: Sequence[str], draw: np.random.Generator) -> pa.Table:
    """Candidates of these classes, in the order of their ids, which says nothing."""
    count = len(classes)
    return pa.table({"candidate_id": ids(count, draw), "class_name": list(classes), "score": np.full(count, 0.1),
                     "probability": pa.nulls(count, pa.float64()), "band": [Band.REJECTED.value] * count})


def audited(table: pa.Table, is_object: npt.NDArray[np.bool_], *, share: float, seed: int, read_share: float
            ) -> list[Audited]:
    """The audit of each class; of it so much is read, what shows nothing first."""
    drawn = select_part(table, POINT, audit_share=share, seed=seed).candidates["candidate_id"].to_pylist()
    truth = dict(zip(table["candidate_id"].to_pylist(), is_object.tolist(), strict=True))
    of_class = dict(zip(table["candidate_id"].to_pylist(), table["class_name"].to_pylist(), strict=True))
    found = []
    for name in sorted(set(of_class.values())):
        own = sorted(truth[each] for each in drawn if of_class[each] == name)
        read = own[:round(read_share * len(own))]
        found.append(Audited(name, sum(each == name for each in of_class.values()), len(own), sum(read),
                             len(read) - sum(read), 0))
    return found


def simulated(number: int) -> tuple[Missed, list[int]]:
    """A run's bounds, and the truth of each."""
    draw = np.random.default_rng((number, 1))
    counts = np.exp(draw.uniform(np.log(50), np.log(20_000), draw.integers(1, 5))).astype(int)
    classes = [f"class {place}" for place, count in enumerate(counts) for _ in range(count)]
    rate = np.repeat(draw.choice([0.0, 0.001, 0.01, 0.1, 0.33], len(counts)), counts)
    is_object = draw.random(len(classes)) < rate
    table = rejected(classes, draw)
    read_share = 1.0 if number % 2 else float(draw.uniform(0, 1))
    missed = bound_missed(audited(table, is_object, share=float(draw.choice(SHARES)), seed=number, read_share=read_share),
                          confidence=CONFIDENCE)
    names = np.array(classes)
    truths = [int(is_object[names == name].sum()) for name in sorted(set(classes))]
    return missed, truths if len(truths) == 1 else [*truths, sum(truths)]


def sharp(runs: int) -> tuple[float, int]:
    """The share of right bounds where they are wrong most often, and of how many objects that is.

    Which that is comes from the law of one size of sample, the one that is expected.
    """
    drawn = round(SHARP_SHARE * SHARP_CANDIDATES)
    bounds = np.array([most_members(k, drawn, SHARP_CANDIDATES, delta=1 - CONFIDENCE) for k in range(drawn + 1)])
    wrong = [float(hypergeom.pmf(np.arange(drawn + 1), SHARP_CANDIDATES, objects, drawn)[bounds < objects].sum())
             for objects in range(SHARP_CANDIDATES + 1)]
    objects = int(np.argmax(wrong))
    right = 0
    for number in range(runs):
        draw = np.random.default_rng((number, 2))
        table = rejected(["one"] * SHARP_CANDIDATES, draw)
        is_object = np.arange(SHARP_CANDIDATES) < objects
        [found] = bound_missed(audited(table, is_object, share=SHARP_SHARE, seed=number, read_share=1.0),
                               confidence=CONFIDENCE).rows
        right += found.at_most >= objects
    return right / runs, objects


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The bound on objects that rules rejected, against the truth.")
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    right: dict[bool, list[bool]] = {True: [], False: []}  # by whether all was read
    single: list[bool] = []
    ours: list[float] = []
    peers: list[float] = []
    for number in range(runs):
        missed, truths = simulated(number)
        fits = [each.at_most >= truth for each, truth in zip(missed.rows, truths, strict=True)]
        right[bool(number % 2)].append(all(fits))
        single += fits
        if number % 2:
            delta = (1 - CONFIDENCE) / len(truths)
            for each in missed.rows:
                ours.append(each.at_most)
                peers.append(each.audited.rejected * most_share(each.audited.counted, each.audited.drawn, delta=delta))
    joint = [each for both in right.values() for each in both]
    say(f"{runs} runs: right {np.mean(joint):.4f}; all read {np.mean(right[True]):.4f}, in part {np.mean(right[False]):.4f}")
    least, objects = sharp(runs)
    times = float(np.median(np.array(peers) / np.maximum(ours, 1)))
    show([
        Row("share of runs all of whose bounds on missed objects cover the truth", float(np.mean(joint)), "share", None,
            None, None, None, CONFIDENCE, Bound.OURS_AT_LEAST,
            {"runs": runs, "all_read": float(np.mean(right[True])),
             "read_in_part_objects_last": float(np.mean(right[False])), "bounds": len(single),
             "share_of_single_bounds": float(np.mean(single))}),
        Row("the same of one class with as many objects as its bounds are wrong of most often", least, "share", None, None,
            None, None, CONFIDENCE - 3 * (0.05 * 0.95 / runs) ** 0.5, Bound.OURS_AT_LEAST,
            {"runs": runs, "candidates": SHARP_CANDIDATES, "drawn_share": SHARP_SHARE, "objects": objects}),
        Row("bound on missed objects, all of the audit read (median)", float(np.median(ours)), "objects",
            float(np.median(peers)), "binomial bound of independent draws", times, None, 1.0, Bound.RATIO_AT_LEAST,
            {"bounds": len(ours)})])


if __name__ == "__main__":
    main()
