"""Everything that is wrong with a data set is said at once; what is right is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segsvc.dataset_check import check, enough_for, half_width_of, refuse_errors
from segsvc.datasets import Dataset, Problem, ProblemKind, Severity
from segsvc.errors import ConfigError
from segsvc.truth import read_dataset
from tests.datasets.support import (
    SQUARE,
    image_entry,
    kinds,
    mask_of,
    the_problem,
    write_classes,
    write_coco,
    write_image,
    write_mask,
    write_masked,
)

CLASSES = ("bus", "car")


def checked(place: Path) -> tuple[Problem, ...]:
    return check(read_dataset(str(place)))


def copy(folder: Path, source: str, target: str) -> None:
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    (folder / target).write_bytes((folder / source).read_bytes())


def masks_of(folder: Path, **more: np.ndarray) -> None:  # type: ignore[type-arg]
    """A sound set of masks, and further ones."""
    write_masked(folder, {"a": mask_of(1, 2), "b": mask_of(2, 1), **more})


def test_a_sound_set_has_no_errors_and_warnings_that_it_is_small(tmp_path: Path) -> None:
    masks_of(tmp_path)
    problems = checked(tmp_path)
    assert kinds(problems) == []
    assert kinds(problems, Severity.WARNING) == [ProblemKind.THIN] * 2


def test_all_that_is_wrong_is_said_at_once_errors_first_and_by_kind(tmp_path: Path) -> None:
    masks_of(tmp_path, other=np.zeros((5, 5), np.uint8), beyond=mask_of(1, 7), colour=mask_of(1), torn=mask_of(2))
    write_mask(tmp_path / "masks" / "colour.png", np.zeros((24, 32, 3), np.uint8))
    (tmp_path / "images" / "torn.png").write_bytes((tmp_path / "images" / "torn.png").read_bytes()[:90])
    write_image(tmp_path / "images" / "lonely.png", seed=77)
    write_mask(tmp_path / "masks" / "orphan.png", mask_of(1))
    (tmp_path / "classes.txt").write_text("background\ndisc\nbar\nring\n")
    copy(tmp_path, "images/a.png", "images/again.png")
    copy(tmp_path, "masks/a.png", "masks/again.png")
    problems = checked(tmp_path)
    assert [(problem.kind, problem.where) for problem in problems if problem.severity is Severity.ERROR] == [
        (ProblemKind.NO_LABELS, "images/lonely.png"), (ProblemKind.NO_IMAGE, "masks/orphan.png"),
        (ProblemKind.UNREADABLE, "images/torn.png"), (ProblemKind.UNREADABLE, "masks/colour.png"),
        (ProblemKind.OTHER_SIZE, "masks/other.png"), (ProblemKind.UNKNOWN_CLASS, "masks/beyond.png"),
        (ProblemKind.EMPTY_CLASS, "")]
    assert set(kinds(problems, Severity.WARNING)) == {ProblemKind.DUPLICATE, ProblemKind.THIN}
    assert [problem.severity for problem in problems] == sorted(problem.severity for problem in problems)


def test_problems_are_the_same_however_often_they_are_looked_for(tmp_path: Path) -> None:
    masks_of(tmp_path, beyond=mask_of(1, 7), other=np.zeros((5, 5), np.uint8))
    assert checked(tmp_path) == checked(tmp_path)


def test_masks_of_0_and_255_are_told_what_255_means(tmp_path: Path) -> None:
    write_masked(tmp_path, {"a": mask_of(255), "b": mask_of(255)}, classes=None)
    problem = the_problem([each for each in checked(tmp_path) if each.severity is Severity.ERROR], ProblemKind.UNKNOWN_CLASS)
    assert "255, which means 'ignore': write 1 where the class is" in problem.message


def one_class_folder(folder: Path) -> Path:
    write_classes(folder, [f"bus/{number}.png" for number in range(3)])
    return folder


def no_labels_in_a_table(folder: Path) -> Path:
    write_classes(folder, ["a.png", "b.png"])
    (folder / "labels.csv").write_text("uri,labels\na.png,\nb.png,\n")
    return folder / "labels.csv"


def one_label_in_each_row(folder: Path) -> Path:
    write_classes(folder, ["a.png", "b.png"])
    (folder / "labels.csv").write_text("uri,labels\na.png,x\nb.png,x\n")
    return folder / "labels.csv"


def one_class_in_each_px(folder: Path) -> Path:
    write_masked(folder, {"a": np.ones((24, 32), np.uint8)}, classes=("disc",))
    return folder


def test_labels_without_any_class_are_none(tmp_path: Path) -> None:
    assert kinds(checked(no_labels_in_a_table(tmp_path))) == [ProblemKind.NO_LABELS]
    write_image(tmp_path / "coco" / "a.png", seed=1)
    assert kinds(checked(write_coco(tmp_path / "coco", [image_entry(1, "a.png")], [], categories=[]))) == [
        ProblemKind.NO_LABELS]


def test_an_image_of_several_frames_is_said(tmp_path: Path) -> None:
    masks_of(tmp_path)
    (tmp_path / "images" / "a.png").unlink()
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.zeros((3, 24, 32), np.uint8), photometric="minisblack")
    problem = the_problem(checked(tmp_path), ProblemKind.UNREADABLE)
    assert (problem.where, problem.message.split(":")[0]) == ("images/a.tif", "expected an image of one frame, got 3")


def test_a_class_that_one_group_alone_shows_is_said_where_no_split_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    (tmp_path / "labels.csv").write_text("uri,labels,group\na.png,x,1\nb.png,x,1\nc.png,y,2\nd.png,y,3\n")
    problem = the_problem(checked(tmp_path / "labels.csv"), ProblemKind.EMPTY_CLASS)
    assert problem.severity is Severity.WARNING
    assert problem.message.startswith("'x' is shown by one image or group alone")


@pytest.mark.parametrize("make", [one_class_folder, one_label_in_each_row, one_class_in_each_px])
def test_where_nothing_is_to_be_told_apart_it_is_an_error(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert kinds(checked(make(tmp_path))) == [ProblemKind.ONE_CLASS]


def test_one_label_with_images_without_it_is_a_task(tmp_path: Path) -> None:
    write_classes(tmp_path, ["a.png", "b.png"])
    (tmp_path / "labels.csv").write_text("uri,labels\na.png,x\nb.png,\n")
    assert kinds(checked(tmp_path / "labels.csv")) == []


def test_a_set_without_images_says_so(tmp_path: Path) -> None:
    assert kinds(checked(write_coco(tmp_path, [], []))) == [ProblemKind.NO_IMAGES, ProblemKind.EMPTY_CLASS,
                                                            ProblemKind.EMPTY_CLASS]


@pytest.mark.parametrize(("split", "severity"), [("val", Severity.ERROR), ("train", Severity.ERROR),
                                                 ("test", Severity.WARNING), ("calibration", Severity.WARNING)])
def test_a_class_that_a_split_lacks_is_said_and_stops_training_where_it_is_needed(
    tmp_path: Path, split: str, severity: Severity,
) -> None:
    others = [each for each in ("train", "val") if each != split]
    write_classes(tmp_path, [f"{split}/bus/1.png", *(f"{each}/{name}/1.png" for each in others for name in CLASSES)])
    problem = the_problem(checked(tmp_path), ProblemKind.EMPTY_CLASS)
    assert problem.severity is severity
    assert problem.message.startswith(f"expected an example of 'car' in {split}, got none")


# -- the same twice ----------------------------------------------------------------------------------------------------


def sound_classes(folder: Path) -> Path:
    write_classes(folder, [f"{split}/{name}/x{split}{name}.png" for split in ("train", "val") for name in CLASSES])
    return folder


def test_the_same_bytes_in_two_splits_are_a_leak(tmp_path: Path) -> None:
    sound_classes(tmp_path)
    copy(tmp_path, "train/bus/xtrainbus.png", "val/bus/renamed.png")
    problem = the_problem(checked(tmp_path), ProblemKind.LEAK)
    assert (problem.severity, problem.where) == (Severity.ERROR, "val/bus/renamed.png")
    assert "as train/bus/xtrainbus.png" in problem.message


def test_the_same_bytes_twice_in_a_split_are_a_warning_and_under_two_classes_an_error(tmp_path: Path) -> None:
    sound_classes(tmp_path)
    copy(tmp_path, "train/bus/xtrainbus.png", "train/bus/zwei.png")
    problem = the_problem(checked(tmp_path), ProblemKind.DUPLICATE)
    assert (problem.severity, problem.where) == (Severity.WARNING, "train/bus/zwei.png")
    copy(tmp_path, "train/bus/xtrainbus.png", "train/car/zwei.png")
    assert kinds(checked(tmp_path)) == [ProblemKind.DUPLICATE]


def test_a_group_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / split / "a.png", seed=len(split))
        write_coco(tmp_path / split, [image_entry(1, "a.png", group="patient 7")], [
            {"image_id": 1, "category_id": number, "segmentation": SQUARE} for number in (1, 2)])
    problem = the_problem(checked(tmp_path), ProblemKind.LEAK)
    assert (problem.severity, problem.where) == (Severity.ERROR, "group patient 7")
    assert "train, val" in problem.message


def guessed(folder: Path, names: list[str]) -> list[str]:
    write_classes(folder, [f"{CLASSES[number % 2]}/{name}" for number, name in enumerate(names)])
    return [problem.message for problem in checked(folder) if problem.kind is ProblemKind.GROUPS_GUESSED]


def test_names_that_begin_alike_by_twos_suggest_groups(tmp_path: Path) -> None:
    (message,) = guessed(tmp_path, [f"p{patient:03d}_slice{number}.png" for patient in range(3) for number in range(4)])
    assert "'p002'" in message
    assert "3 such beginnings" in message


def test_a_stray_name_among_them_changes_nothing_and_many_do(tmp_path: Path) -> None:
    alike = [f"p{patient:03d}_slice{number}.png" for patient in range(3) for number in range(4)]
    assert len(guessed(tmp_path / "one", [*alike, "overview.png"])) == 1
    assert guessed(tmp_path / "many", [*alike, *(f"x{number}.png" for number in range(4))]) == []


@pytest.mark.parametrize("pattern", ["IMG_{n:04d}.png", "{n}.png", "a{n}_photo.png", "{name}_{n}.png"])
def test_names_that_are_only_numbered_or_say_the_class_suggest_none(tmp_path: Path, pattern: str) -> None:
    assert guessed(tmp_path, [pattern.format(n=number, name=CLASSES[number % 2]) for number in range(12)]) == []


def test_a_table_that_names_groups_is_not_guessed_at(tmp_path: Path) -> None:
    names = [f"p{number // 2}_{number}.png" for number in range(8)]
    write_classes(tmp_path, names)
    for column, count in (("", 1), (",group", 0)):
        rows = [f"{name},{'xy'[number % 2]}" + (f",{number}" if column else "") for number, name in enumerate(names)]
        (tmp_path / "labels.csv").write_text("\n".join([f"uri,labels{column}", *rows]))
        assert kinds(checked(tmp_path / "labels.csv"), Severity.WARNING).count(ProblemKind.GROUPS_GUESSED) == count


# -- what is thin ------------------------------------------------------------------------------------------------------


def test_it_is_said_how_many_more_would_make_a_recall_known(tmp_path: Path) -> None:
    names = [f"train/{name}/t{number}{name}.png" for number in range(2) for name in CLASSES]
    names += [f"val/bus/v{number}.png" for number in range(32)] + [f"val/car/w{number}.png" for number in range(12)]
    write_classes(tmp_path, names)
    assert the_problem(checked(tmp_path), ProblemKind.THIN).message == (
        "car has 12 images in validation: with 20 more its recall would be known to +-0.1")


@pytest.mark.parametrize(("found", "n", "low", "high"), [(8, 10, 0.4439045, 0.9747893), (0, 10, 0, 0.3084971),
                                                         (10, 10, 0.6915029, 1), (30, 32, 0.7919306, 0.9923394)])
def test_intervals_are_those_of_published_tables(found: int, n: int, low: float, high: float) -> None:
    assert half_width_of(found, n) == pytest.approx((high - low) / 2, abs=1e-6)


def test_from_enough_on_the_interval_stays_narrow() -> None:
    assert enough_for(0.2) < enough_for(0.1) == 32
    assert all(round(half_width_of(round(0.95 * n), n), 3) <= 0.1 for n in range(32, 80))
    assert round(half_width_of(round(0.95 * 31), 31), 3) > 0.1


# -- what training asks ------------------------------------------------------------------------------------------------


def test_errors_are_refused_with_the_first_of_them_and_warnings_are_not(tmp_path: Path) -> None:
    masks_of(tmp_path)
    dataset: Dataset = read_dataset(str(tmp_path))
    refuse_errors(dataset, check(dataset))
    for name in ("a", "b"):
        write_mask(tmp_path / "masks" / f"{name}.png", mask_of(9))
    dataset = read_dataset(str(tmp_path))
    with pytest.raises(ConfigError, match=r"without errors, got 4: masks/a\.png: expected px .*datasets check"):
        refuse_errors(dataset, check(dataset))


def test_progress_is_told_image_by_image(tmp_path: Path) -> None:
    masks_of(tmp_path)
    told: list[tuple[int, int]] = []
    check(read_dataset(str(tmp_path)), lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]
