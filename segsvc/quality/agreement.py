"""Whether people who labelled the same image mean the same objects, and what holds where they do not.

Two objects of one class are the same where their intersection over union is at least a half; each is matched once, the
largest overlaps first. The share of objects that both have marked is Dice's coefficient over objects: 2 m / (a + b)
(Dice 1945, "Measures of the amount of ecologic association between species").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segsvc.quality.matching import Shape, measured, overlaps

SAME = 0.5  # intersection over union


@dataclass(frozen=True, slots=True)
class Marked:
    """What a person marked: a shape of a class, or the class of the whole image (shape None)."""

    class_name: str
    shape: Shape | None


def matches(one: Sequence[Marked], other: Sequence[Marked]) -> list[tuple[int, int]]:
    """Which of one person's objects is which of the other's: pairs of places, in the order of the first."""
    found = []
    for class_name in sorted({each.class_name for each in one} & {each.class_name for each in other}):
        left = [place for place, each in enumerate(one) if each.class_name == class_name]
        right = [place for place, each in enumerate(other) if each.class_name == class_name]
        found += [(left[a], right[b]) for a, b in _pairs([one[a].shape for a in left], [other[b].shape for b in right])]
    return sorted(found)


def _pairs(one: Sequence[Shape | None], other: Sequence[Shape | None]) -> list[tuple[int, int]]:
    left, right = [each for each in one if each is not None], [each for each in other if each is not None]
    if len(left) < len(one) or len(right) < len(other):  # of whole images: there is one of a class
        return [(0, 0)]
    shared, areas, other_areas = measured(left, right)
    overlap = overlaps(shared, areas, other_areas, np.zeros(len(right), np.bool_))
    pairs, taken = [], (set[int](), set[int]())
    for place in np.argsort(-overlap, axis=None, kind="stable").tolist():
        a, b = divmod(place, len(right))
        if overlap[a, b] < SAME:
            break
        if a not in taken[0] and b not in taken[1]:
            taken[0].add(a)
            taken[1].add(b)
            pairs.append((a, b))
    return pairs


def agreement(opinions: Sequence[Sequence[Marked]]) -> float:
    """The share of objects that two people both marked, the mean over all pairs of people; 1 where nobody marked any.

    Raises ValueError for fewer than two.
    """
    if len(opinions) < 2:
        raise ValueError(f"expected what two people marked, got {len(opinions)}")
    shares = []
    for place, one in enumerate(opinions):
        for other in opinions[place + 1:]:
            n = len(one) + len(other)
            shares.append(2 * len(matches(one, other)) / n if n else 1.0)
    return sum(shares) / len(shares)


def consensus(opinions: Sequence[Sequence[Marked]], *, at_least: int) -> list[tuple[int, int]]:
    """The objects that at least so many people marked, each as whoever marked it first drew it: (person, object) places."""
    clusters: list[tuple[int, int]] = []  # (person, object) that stands for each
    votes: list[int] = []
    for person, own in enumerate(opinions):
        standing = [opinions[a][b] for a, b in clusters]
        matched = {b: a for a, b in matches(standing, own)}
        for place in range(len(own)):
            if place in matched:
                votes[matched[place]] += 1
            else:
                clusters.append((person, place))
                votes.append(1)
    return [each for each, n in zip(clusters, votes, strict=True) if n >= at_least]
