"""An image keeps its part for ever, and nothing that was learnt from is compared on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from segsvc.datasets import Split
from segsvc.errors import ConfigError
from segsvc.improving.parts import Parts, parted
from segsvc.truth import read_dataset
from tests.datasets.support import write_image

NONE: frozenset[str] = frozenset()


def table(folder: Path, images: int, *, groups: int = 0, first: int = 0, columns: str = "", values: str = "") -> str:
    """A .csv of so many images; of groups where there are to be some."""
    lines = [f"uri,labels,group{columns}"]
    for number in range(first, images):
        write_image(folder / f"{number}.png", seed=number)
        lines.append(f"{number}.png,{'ab'[number % 2]},{f'g{number % groups}' if groups else ''}{values}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "labels.csv")


def part_of(parts: Parts) -> dict[str, Split | None]:
    return {digest: image.split for image, digest in zip(parts.images, parts.digests, strict=True)}


def test_a_set_that_grows_only_adds_to_each_part(tmp_path: Path) -> None:
    before = part_of(parted(read_dataset(table(tmp_path, 60)), seed=0, frozen=NONE, learnt=NONE))
    after = part_of(parted(read_dataset(table(tmp_path, 100)), seed=0, frozen=NONE, learnt=NONE))
    assert before.items() <= after.items()
    assert set(Counter(after.values())) == {Split.TRAIN, Split.CALIBRATION, Split.TEST}


def test_the_same_image_elsewhere_and_by_another_name_has_the_same_part(tmp_path: Path) -> None:
    here = parted(read_dataset(table(tmp_path / "here", 60)), seed=3, frozen=NONE, learnt=NONE)
    there = parted(read_dataset(table(tmp_path / "there", 60)), seed=3, frozen=NONE, learnt=NONE)
    assert part_of(here) == part_of(there)


def test_images_of_a_group_stay_together_and_so_do_copies(tmp_path: Path) -> None:
    place = table(tmp_path, 160, groups=80)
    (tmp_path / "0.png").write_bytes((tmp_path / "1.png").read_bytes())  # of another group
    parts = parted(read_dataset(place), seed=0, frozen=NONE, learnt=NONE)
    of_group: dict[str | None, set[Split | None]] = {}
    for image in parts.images:
        of_group.setdefault(image.ref.group, set()).add(image.split)
    assert all(len(splits) == 1 for splits in of_group.values())
    assert of_group["g0"] == of_group["g1"]


def test_what_was_frozen_stays_and_what_was_learnt_never_comes_in(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, 100))
    plain = parted(dataset, seed=0, frozen=NONE, learnt=NONE)
    tested = sorted(plain.digests_of(Split.TEST))
    learnt, frozen = frozenset(tested[:3]), frozenset(tested[3:])
    other = parted(dataset, seed=77, frozen=frozen, learnt=learnt)
    assert frozen <= other.digests_of(Split.TEST)
    assert learnt <= other.digests_of(Split.TRAIN)


def test_images_learnt_from_are_in_no_part_where_others_of_their_group_are_compared_on(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, 200, groups=100))
    plain = parted(dataset, seed=0, frozen=NONE, learnt=NONE)
    pair = [digest for image, digest in zip(plain.images, plain.digests, strict=True) if image.ref.group == "g7"]
    parts = parted(dataset, seed=0, frozen=frozenset(pair[:1]), learnt=frozenset(pair[1:]))
    assert parts.passed_over == 1
    assert pair[0] in parts.digests_of(Split.TEST)
    assert pair[1] not in parts.digests


def test_too_few_units_are_told_how_many_more_would_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"enough labelled images for three parts, got .* Label about \d+ more"):
        parted(read_dataset(table(tmp_path, 12)), seed=0, frozen=NONE, learnt=NONE)


def test_a_set_that_names_other_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no split, or train, calibration and test; got train"):
        parted(read_dataset(table(tmp_path, 12, columns=",split", values=",train")), seed=0, frozen=NONE, learnt=NONE)
