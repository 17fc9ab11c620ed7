"""Everything that is wrong with a data set, at once; and what is so thin that little will be known of it."""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

from segsvc.card import Task
from segsvc.dataset_facts import ImageFacts, Progress, look
from segsvc.datasets import Dataset, Problem, ProblemKind, Severity, Split, doubtful, wrong
from segsvc.datasets.files import shown_path
from segsvc.errors import ConfigError

_TRAINED_WITH = (Split.TRAIN, Split.VAL)  # what training cannot do without
_SPLIT_WORDS = {Split.TRAIN: "training", Split.VAL: "validation", Split.CALIBRATION: "calibration", Split.TEST: "test"}
_THIN_RECALL = 0.95  # the recall that is asked for by default
_THIN_HALF_WIDTH = 0.1
_CONFIDENCE = 0.95
_PREFIX = re.compile(r"(.+)[_\-. ][^_\-. ]+")  # of a name that goes on after its last separator
_FEWEST_NAMES = 6  # from which on names may suggest groups
_MOST_NAMES = 0.9  # so many of them must
_MOST_TOLD = 3

_KINDS = list(ProblemKind)


def check(dataset: Dataset, progress: Progress | None = None) -> tuple[Problem, ...]:
    """All that is wrong with a set, errors first, then by kind and place; what was found while it was opened included.

    Every image's header and bytes and every mask are read. Raises StoreError where the store as a whole cannot be read.
    """
    return problems_of(dataset, tuple(look(dataset, progress)))


def problems_of(dataset: Dataset, facts: Sequence[ImageFacts]) -> tuple[Problem, ...]:
    """The same of a set whose images were looked at."""
    found = [*dataset.problems, *_faults(dataset, facts), *_classes(dataset, facts), *_copies(dataset, facts),
             *_groups(dataset), *_thin(dataset, facts)]
    if dataset.splits:
        found += [doubtful(ProblemKind.UNKNOWN_SPLIT, "expected a split, as other images have one; got none: it is not used",
                           _shown(dataset, image.ref.uri)) for image in dataset.images if image.split is None]
    return tuple(sorted(found, key=lambda problem: (problem.severity is not Severity.ERROR, _KINDS.index(problem.kind),
                                                    problem.where, problem.message)))


def refuse_errors(dataset: Dataset, problems: Iterable[Problem]) -> None:
    """Raises ConfigError with the first of the errors among these problems, and how all of them are seen."""
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    if errors:
        told = "; ".join(f"{problem.where}: {problem.message}" if problem.where else problem.message
                         for problem in errors[:_MOST_TOLD])
        raise ConfigError(f"{dataset.place}: expected a data set without errors, got {len(errors)}: {told}. "
                          "`segsvc datasets check` lists all.")


def _shown(dataset: Dataset, uri: str) -> str:
    return shown_path(uri, dataset.place)


def _faults(dataset: Dataset, facts: Sequence[ImageFacts]) -> Iterator[Problem]:
    if not facts:
        yield wrong(ProblemKind.NO_IMAGES, "expected images with labels, got none")
    for seen in facts:
        for fault in seen.faults:
            yield wrong(fault.kind, fault.message, _shown(dataset, fault.uri))


# -- classes -----------------------------------------------------------------------------------------------------------


def _classes(dataset: Dataset, facts: Sequence[ImageFacts]) -> Iterator[Problem]:
    """Classes that nothing shows, in the set or in a split; and a single one where there is nothing else."""
    in_all = Counter(name for seen in facts for name in seen.objects)
    if facts and not in_all and any(seen.has_ignored for seen in facts):
        yield wrong(ProblemKind.UNKNOWN_CLASS, "expected masks with px of a class, got none but 0 and 255, which means "
                    "'ignore': write 1 where the class is")
    if facts and not dataset.classes:
        yield wrong(ProblemKind.NO_LABELS, "expected images with labels, got images without any class")
    if (alone := _alone(dataset, facts, in_all)) is not None:
        yield wrong(ProblemKind.ONE_CLASS, f"expected two classes, or something that is none, got {alone}: nothing is to be "
                    "told apart")
    for name in dataset.classes:
        if not in_all[name]:
            yield wrong(ProblemKind.EMPTY_CLASS, f"expected an example of {name!r}, got none: label some, or take it out of "
                        "the classes")
            continue
        units = {seen.image.ref.group or seen.image.ref.uri for seen in facts if name in seen.objects}
        if not dataset.splits and len(units) == 1:
            yield doubtful(ProblemKind.EMPTY_CLASS, f"{name!r} is shown by one image or group alone: it cannot be both "
                           "learnt and held out")
        for split in dataset.splits:
            if any(name in seen.objects for seen in facts if seen.image.split is split):
                continue
            message = f"expected an example of {name!r} in {split}, got none"
            yield (wrong(ProblemKind.EMPTY_CLASS, message) if split in _TRAINED_WITH else
                   doubtful(ProblemKind.EMPTY_CLASS, f"{message}: nothing will be known of it there"))


def _alone(dataset: Dataset, facts: Sequence[ImageFacts], in_all: Mapping[str, int]) -> str | None:
    """What all images or px show, where that is one thing; None where there are two to be told apart."""
    if not facts or dataset.task is Task.INSTANCE:
        return None
    if dataset.task is Task.CLASSIFICATION:
        only = dataset.classes[0] if len(dataset.classes) == 1 else None
        return f"{only!r} in each image" if only is not None and in_all.get(only) == len(facts) else None
    if len(in_all) == 1 and not any(seen.has_background for seen in facts):
        return f"{next(iter(in_all))!r} in each px"
    return None


# -- the same twice ----------------------------------------------------------------------------------------------------


def _copies(dataset: Dataset, facts: Sequence[ImageFacts]) -> Iterator[Problem]:
    """Images of the same bytes: in two splits, or in one; and whether they are labelled alike."""
    by_digest = defaultdict(list)
    for seen in facts:
        if seen.digest:
            by_digest[seen.digest].append(seen)
    for alike in by_digest.values():
        first = alike[0]
        for seen in alike[1:]:
            where, other = _shown(dataset, seen.image.ref.uri), _shown(dataset, first.image.ref.uri)
            apart = next((each for each in alike if each.image.split is not seen.image.split), None)
            if apart is not None and seen.image.split is not None:
                yield wrong(ProblemKind.LEAK, f"expected an image in one split, got it in {seen.image.split} and, the same "
                            f"bytes, in {apart.image.split or 'none'} as {_shown(dataset, apart.image.ref.uri)}", where)
            elif dataset.exclusive and seen.image.truth != first.image.truth:
                yield wrong(ProblemKind.DUPLICATE, f"expected one class an image, got the bytes of {other}, which has "
                            "another", where)
            else:
                yield doubtful(ProblemKind.DUPLICATE, f"the same bytes as {other}: it counts twice", where)


def _groups(dataset: Dataset) -> Iterator[Problem]:
    """Groups in two splits; and groups that nobody named."""
    splits_of = defaultdict(set)
    for image in dataset.images:
        if image.ref.group is not None and image.split is not None:
            splits_of[image.ref.group].add(image.split)
    for group, splits in sorted(splits_of.items()):
        if len(splits) > 1:
            yield wrong(ProblemKind.LEAK, f"expected a group in one split, got it in {', '.join(sorted(splits))}",
                        f"group {group}")
    if not splits_of and (guessed := _guessed_groups(dataset)) is not None:
        yield guessed


def _guessed_groups(dataset: Dataset) -> Problem | None:
    """What is said where names begin alike by twos or more and no image has a group; None where they do not.

    A name is looked at up to its last separator (`_`, `-`, `.` or a space). Beginnings that only say the class are none.
    """
    images = dataset.images
    if len(images) < _FEWEST_NAMES or any(image.ref.group is not None for image in images):
        return None
    of_prefix = defaultdict(list)
    for image in images:
        stem = posixpath.splitext(posixpath.basename(_shown(dataset, image.ref.uri)))[0]
        if (match := _PREFIX.fullmatch(stem)) is not None:
            of_prefix[match.group(1)].append((stem, image))
    named = sum(map(len, of_prefix.values()))
    if named < _MOST_NAMES * len(images) or not 1 < len(of_prefix) <= named / 2:
        return None
    if {prefix.casefold() for prefix in of_prefix} <= {name.casefold() for name in (*dataset.classes, *Split)}:
        return None
    prefix = max(of_prefix, key=lambda prefix: (len(of_prefix[prefix]), prefix))
    apart = sum(len({image.split for _, image in several}) > 1 for several in of_prefix.values())
    told = f", {apart} of them in two splits or more" if apart else ""
    first, others = of_prefix[prefix][0][0], len(of_prefix[prefix]) - 1
    return doubtful(ProblemKind.GROUPS_GUESSED, f"no groups are given, but names begin alike: {first!r} and {others} more "
                    f"with {prefix!r}, {len(of_prefix)} such beginnings in all{told}. If images of one beginning are of one "
                    "patient, plant or place, say so by a group (COCO: \"group\" of an image; .csv: a column group)")


# -- too few -----------------------------------------------------------------------------------------------------------


def _thin(dataset: Dataset, facts: Sequence[ImageFacts]) -> Iterator[Problem]:
    """Classes of which so few are held out that their recall will hardly be known; of all images where no split is named."""
    enough = enough_for(_THIN_HALF_WIDTH)
    unit = "image" if dataset.task is Task.CLASSIFICATION else "object"
    held_out: list[Split | None] = [split for split in dataset.splits if split is not Split.TRAIN]
    for split in held_out if dataset.splits else [None]:
        among = f" in {_SPLIT_WORDS[split]}" if split is not None else ""
        for name in dataset.classes:
            count = sum(seen.objects.get(name, 0) for seen in facts if seen.image.split is split)
            if 0 < count < enough:
                yield doubtful(ProblemKind.THIN, f"{name} has {count} {unit}{'s' * (count > 1)}{among}: with "
                               f"{enough - count} more its recall would be known to +-{_THIN_HALF_WIDTH:g}")


@cache
def enough_for(half_width: float) -> int:
    """How many examples are enough for a recall to be known to +- `half_width` with 95 % confidence.

    It is the least n from which on the exact binomial interval (Clopper and Pearson, 1934) has at most this half-width, to
    a thousandth, where round(0.95 n) of n examples are found (0.95: the recall that is asked for by default). 32 for 0.1.
    """
    n = 1
    while True:
        if all(round(half_width_of(round(_THIN_RECALL * more), more), 3) <= half_width for more in range(n, n + 20)):
            return n
        n += 1


def half_width_of(found: int, n: int) -> float:
    """Half of the width of the exact binomial interval for `found` of n."""
    alpha = (1 - _CONFIDENCE) / 2
    low = 0.0 if found == 0 else _bisected(lambda p: 1 - _at_most(found - 1, n, p) >= alpha)
    high = 1.0 if found == n else _bisected(lambda p: _at_most(found, n, p) <= alpha)
    return (high - low) / 2


def _at_most(k: int, n: int, p: float) -> float:
    """The probability that at most k of n happen, each with probability p in (0, 1)."""
    return math.fsum(math.comb(n, i) * p ** i * (1 - p) ** (n - i) for i in range(k + 1))


def _bisected(holds: Callable[[float], bool]) -> float:
    """The least p in [0, 1] from which on `holds`."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
