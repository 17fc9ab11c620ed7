"""Which candidates of a run people see, and in what order: by arrays, a part of the run at a time.

Draws are a hash of candidate and seed, so that they depend on nothing else, such as the order of parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segsvc.operating_point import OperatingPoint
from segsvc.types import Band

Draws = npt.NDArray[np.uint64]
_AUDIT, _SHUFFLE, _SPREAD = 0x5851F42D4C957F2D, 0x14057B7EF767814F, 0x2545F4914F6CDD1D
_STEPS = 10**9  # of a distance between scores
_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class Selected:
    """Those of a part that are reviewed, and what goes with each: (n,) arrays. decided: by rule, candidates by band."""

    candidates: pa.Table
    audit: npt.NDArray[np.bool_]
    distance: npt.NDArray[np.int64]  # from the middle of the review band
    shuffle: npt.NDArray[np.int64]
    decided: dict[Band, int]


def select_part(candidates: pa.Table, point: OperatingPoint | None, *, audit_share: float, seed: int) -> Selected:
    """The candidates of the review band, and the audit sample of the others. candidates: with probability and band."""
    bands = candidates["band"].combine_chunks()
    counts = {each["values"]: each["counts"] for each in pc.value_counts(bands).to_pylist()}
    in_review = pc.equal(bands, Band.REVIEW.value).to_numpy(zero_copy_only=False).astype(np.bool_)
    bits = _bits(candidates["candidate_id"])
    # the share as a bound on 53 bits, as many as a float holds
    drawn = (_mixed(bits, seed, _AUDIT) >> np.uint64(11)).astype(np.float64) / 2.0**53 < audit_share
    wanted = np.flatnonzero(in_review | drawn)
    kept, bits, audit = candidates.take(pa.array(wanted)), bits[wanted], ~in_review[wanted]
    distance, half_width = _distances(kept, point)
    # what is audited lies outside of the band; it is strewn among the others, so that its place does not tell it
    strewn = (_mixed(bits, seed, _SPREAD) >> np.uint64(11)).astype(np.float64) / 2.0**53 * half_width
    distance = np.where(audit, strewn, distance)
    return Selected(kept, audit, np.rint(distance * _STEPS).astype(np.int64),
                    (_mixed(bits, seed, _SHUFFLE) >> np.uint64(2)).astype(np.int64),
                    {band: counts.get(band.value, 0) for band in (Band.ACCEPTED, Band.REJECTED)})


def _distances(candidates: pa.Table, point: OperatingPoint | None
               ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How far each is from the middle of its class's review band, and half the band's width.

    In probability where the class has one, else in score; without thresholds the band is all of [0, 1].
    """
    classes = candidates["class_name"].combine_chunks().dictionary_encode()
    codes = classes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    score = candidates["score"].to_numpy()
    probability = candidates["probability"].to_numpy()  # nan where there is none
    names = classes.dictionary.to_pylist()
    middle, half = np.full((2, max(1, len(names))), 0.5), np.full((2, max(1, len(names))), 0.5)
    for code, name in enumerate(names):
        thresholds = point.thresholds(name) if point is not None else None
        if thresholds is None:
            continue
        ends = np.array([thresholds.flag_at, thresholds.accept_at if thresholds.accept_at is not None else 1.0])
        mapped = point.probabilities.get(name) if point is not None else None
        for kind, (low, high) in enumerate((ends, mapped.of(ends) if mapped is not None else ends)):
            middle[kind, code], half[kind, code] = (low + high) / 2, (high - low) / 2
    by_probability = ~np.isnan(probability)
    kind = by_probability.astype(np.int64)
    value = np.where(by_probability, probability, score)
    return np.abs(value - middle[kind, codes]), half[kind, codes]


def _bits(ids: pa.ChunkedArray) -> Draws:
    """(n,) the first 64 bits of ids of 32 hexadecimal digits, which are hashes."""
    return np.frombuffer(bytes.fromhex("".join(ids.to_pylist())), dtype=">u8").reshape(-1, 2)[:, 0].astype(np.uint64)


def _mixed(bits: Draws, seed: int, salt: int) -> Draws:
    """(n,) draws from 0 to 2**64 - 1: the finaliser of splitmix64 (Steele, Lea, Flood 2014) over id, seed and salt."""
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + salt) % 2**64)
    mixed = bits ^ start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
