"""The report of an evaluation: what it says, that it holds still, and that it loads and runs nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from segsvc.card import Task
from segsvc.datasets import TrueObject
from segsvc.evaluation import Compared, Observation, charts, summarise
from segsvc.evaluation.evaluating import metrics_document
from segsvc.evaluation.pictures import BadExample, bad_examples
from segsvc.evaluation.report import render_evaluation, sentence
from segsvc.metrics_document import EvaluatedData, EvaluatedModel, FailedImage, MetricsDocument, SeenInTraining
from segsvc.quality.average_precision import detection_tally
from segsvc.quality.figures import Confusion, Curve, Figure, FoundAt
from segsvc.quality.found import ScoredShape, found_tally
from segsvc.quality.matching import Shape
from segsvc.readers import ReadLimits
from segsvc.stores import store_of
from segsvc.types import Box, Candidate, CandidateKind
from tests.evaluation.test_figures import instance, labelled, reference, semantic

NASTY = "<script>alert(1)</script>"
DATA = EvaluatedData(place="file:///set", layout="mask_folder", split="test", images=10, exclusive=True)
MODEL = EvaluatedModel(name="nuts", version="1", digest="d" * 64, runtime="torch-cpu", flag_at={}, operating_point="none")


def document(observations: list[Observation], task: Task, names: tuple[str, ...] = ("thing",), *,
             failed: tuple[FailedImage, ...] = (), seen: SeenInTraining | None = None,
             out_of_fold: int | None = None) -> MetricsDocument:
    summary = summarise(observations, names, task, seed=0, resamples=200, exclusive=True)
    return metrics_document(summary, model=MODEL, data=DATA, classes=Compared(names), failed=failed, seen=seen,
                            out_of_fold=out_of_fold)


def plain(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


TASKS = {Task.SEMANTIC: lambda: document([semantic(n, shift_px=n % 4, side="ab"[n % 2]) for n in range(8)], Task.SEMANTIC),
         Task.INSTANCE: lambda: document([instance(n, right=n > 1) for n in range(8)], Task.INSTANCE),
         Task.CLASSIFICATION: lambda: document([labelled(n, 0.1 + n / 10) for n in range(8)], Task.CLASSIFICATION,
                                               ("cat", "dog"))}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_report_that_is_the_same_each_time_and_loads_nothing(task: Task) -> None:
    page = render_evaluation(TASKS[task]())
    assert page == render_evaluation(TASKS[task]())
    assert "default-src 'none'" in page
    for forbidden in ("<script", "http://", "https://", "style=", "@import", "url(http"):
        assert forbidden not in page
    assert not re.search(r"\b(None|nan|inf)\b", plain(page))


def test_one_sentence_says_what_the_figures_are_of_and_how_sure_they_are() -> None:
    every = document([semantic(n, shift_px=n % 4) for n in range(8)], Task.SEMANTIC)
    assert sentence(every).startswith(
        "These figures are of 8 images of the split test; in brackets stands where 95 % of 200 bootstrap samples of the "
        "8 images lie")
    folds = document([semantic(n, shift_px=0, group="one") for n in range(8)], Task.SEMANTIC, out_of_fold=5)
    assert "each judged by one of 5 models that had not seen it (out of fold)" in sentence(folds)
    assert sentence(folds).endswith("how sure they are is not known: at least 2 groups are needed for intervals.")


def test_what_makes_the_figures_doubtful_stands_before_them() -> None:
    seen = SeenInTraining(images=3, share=3 / 8, image_uris=["a", "b", "c"])
    failed = (FailedImage(image_uri="file:///set/bad.png", kind="corrupt", error="expected a PNG"),)
    page = render_evaluation(document([semantic(n, shift_px=1) for n in range(8)], Task.SEMANTIC, seen=seen, failed=failed))
    text = plain(page)
    assert text.index("Measured on 3 images that it was trained on: the figures are too good.") < text.index("IoU")
    assert "1 image could not be read and is in no figure." in text
    assert "file:///set/bad.png corrupt expected a PNG" in text
    assert 'class="card alarm"' in page


def test_it_says_which_classes_counted_as_which() -> None:
    classes = Compared(("car", "tree"), folded={"trailer": "car", "oak": "tree", "sedan": "car"})
    every = metrics_document(summarise([], classes.names, Task.SEMANTIC, seed=0), model=MODEL, data=DATA, classes=classes)
    said = "Classes that the set has no name for count as their nearest ancestor: trailer, sedan as car; oak as tree."
    assert said in every.notes
    assert said in plain(render_evaluation(every))
    assert every.classes.folded == classes.folded


def test_texts_of_users_are_escaped() -> None:
    observations = [semantic(n, shift_px=n % 3, side=(NASTY, "b")[n % 2]) for n in range(6)]
    page = render_evaluation(document(observations, Task.SEMANTIC, (NASTY,)))
    assert NASTY not in page
    assert "&lt;script&gt;alert(1)" in page


def test_where_nothing_could_be_read_the_report_says_so() -> None:
    failed = tuple(FailedImage(image_uri=f"{n}.png", kind="corrupt", error="broken") for n in range(10))
    text = plain(render_evaluation(document([], Task.SEMANTIC, failed=failed)))
    assert "No image could be read: there are no figures." in text


def test_worst_images_are_shown_with_truth_and_answer_outlined(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), np.full((32, 32), 90, np.uint8))
    found = store_of(str(tmp_path)).find(str(tmp_path / "one.png"))
    seen = semantic(0, shift_px=4)
    box = Box(8, 8, 20, 20)
    seen = replace(seen, ref=found, objects=(TrueObject("thing", Box(4, 8, 16, 20)),), candidates=(
        Candidate(0, "thing", CandidateKind.REGION, box, box.area_px, 0.9, 0.9),))
    every = document([seen, semantic(1, shift_px=5)], Task.SEMANTIC)
    (example,) = bad_examples(every.worst, [seen, semantic(1, shift_px=5)], ["thing"], {}, ReadLimits())  # the other is gone
    assert isinstance(example, BadExample)
    assert (example.n_objects, example.n_candidates, example.width_px) == (1, 1, 32)
    shown = cv2.imdecode(np.frombuffer(example.picture, np.uint8), cv2.IMREAD_COLOR).astype(int)
    blue, red = shown[..., 0] - shown[..., 2], shown[..., 2] - shown[..., 0]
    assert (blue > 60).sum() > 200
    assert (red > 60).sum() > 200
    assert example.worst.image_uri in plain(render_evaluation(every, [example]))


def test_a_line_begins_anew_after_a_point_that_is_undefined() -> None:
    curve = Curve((0.0, 0.5, 0.75, 1.0), (1.0, 0.5, 0.25, 0.0), (0.5, None, 1.0, 1.0), (1.0, 0.5, 0.0, 0.0))
    (line,) = charts.recall_precision_chart(curve).lines
    assert line.path.count("M") == 2
    assert line.path.startswith(f"M{float(charts.LEFT + charts.PLOT_WIDTH)} {charts.TOP + charts.PLOT_HEIGHT / 2}")


def test_bands_are_drawn_where_there_are_intervals_and_nothing_lies_outside_of_the_chart() -> None:
    def row(threshold: float, *, sure: bool) -> FoundAt:
        figure = Figure(0.5, 0.4, 1.0) if sure else Figure(0.5)
        return FoundAt(threshold, 4, 2, 4, 2, figure, figure)

    sure = charts.found_chart([row(0.0, sure=True), row(1.0, sure=True)], 0.3)
    assert [band.style for band in sure.bands] == ["first", "second"]
    assert sure.cut == charts.LEFT + round(0.3 * charts.PLOT_WIDTH, 2)
    assert charts.found_chart([row(0.0, sure=False), row(1.0, sure=False)], None).bands == ()
    numbers = [float(number) for band in sure.bands for number in re.findall(r"[\d.]+", band.path)]
    assert min(numbers) >= charts.TOP
    assert max(numbers) <= charts.WIDTH


def test_a_confusion_of_many_classes_is_listed_and_not_drawn() -> None:
    few = charts.confusion_chart(Confusion(("a", "b" * 40), ((3, 1, 0), (0, 4, 0)), 0))
    assert few is not None
    assert [cell.opacity for cell in few.cells] == [0.75, 0.25, 0.0, 1.0]
    assert few.rows[1].label == "b" * 15 + "…"
    names = tuple(str(number) for number in range(21))
    assert charts.confusion_chart(Confusion(names, tuple((0,) * 22 for _ in names), 0)) is None


def test_an_interval_without_width_is_not_taken_for_certainty() -> None:
    sure = document([labelled(n, 0.9) for n in range(40)], Task.CLASSIFICATION, ("thing", "other"))
    assert sure.figures["accuracy"].low == 1.0
    said = next(note for note in sure.notes if note.startswith("An interval from 1 to 1"))
    assert "nothing went wrong in 40 images" in said
    assert "up to 8.8 % could" in said  # 1 - 0.025 ** (1 / 40)
    wrong = document([labelled(n, 0.1) for n in range(40)], Task.CLASSIFICATION, ("thing", "other"))
    assert ("An interval from 0 to 0 only says that nothing went right in 40 images: in others like these up to 8.8 % "
            "could.") in wrong.notes


def test_an_interval_of_what_one_unit_alone_holds_is_said_to_know_nothing_of_others() -> None:
    empty = replace(instance(0, right=True), boxes=detection_tally(
        [], np.zeros(0), np.zeros(0, np.int64), [], np.zeros(0, np.int64), np.zeros(0, np.bool_), n_classes=1),
        found=found_tally([], [], []))
    alone = found_tally([ScoredShape(0, 0.9, Shape(Box(0, 0, 40, 40)))],
                        [(0, Shape(Box(0, 0, 40, 40))), (0, Shape(Box(80, 80, 90, 90)))], [])
    others = [replace(empty, ref=reference(number)) for number in range(1, 10)]
    said = document([replace(empty, found=alone), *others], Task.INSTANCE)
    assert (said.figures["object_recall"].value, said.figures["object_recall"].low) == (0.5, 0.5)
    assert any(note.startswith("Objects found: the interval has no width, as every resample gave the same. That is so where "
                               "one image alone holds what is counted") for note in said.notes)


def test_intervals_of_few_groups_are_said_to_be_too_narrow() -> None:
    seen = [semantic(n, shift_px=n % 4, group=f"street {n % 3}") for n in range(12)]
    few = document(seen, Task.SEMANTIC)
    assert ("Intervals by 3 groups are too narrow: they lie within what these span, and so few span the middle of others "
            "like them in 75 % of cases at best, not in 95 %.") in few.notes
    assert sentence(few).endswith("other groups like these would give figures farther apart.")
    enough = document([semantic(n, shift_px=n % 4) for n in range(6)], Task.SEMANTIC)
    assert not any("too narrow" in note for note in enough.notes)


def test_intervals_without_width_are_named_where_they_are_of_a_class_or_a_slice() -> None:
    seen = [instance(n, right=n % 2 > 0 if n > 7 else True) for n in range(16)]
    wet = [replace(each.ref, meta={"weather": "wet" if n > 7 else "dry"}) for n, each in enumerate(seen)]
    sliced = document([replace(each, ref=ref) for each, ref in zip(seen, wet, strict=True)], Task.INSTANCE)
    assert ("Intervals without width, as for weather dry, say that every resample gave the same, not that a figure is "
            "sure.") in sliced.notes
    assert "same, which does not make a figure sure" in plain(render_evaluation(sliced))
    seen = [semantic(n, shift_px=n % 4, weather="wet" if n > 7 else "dry") for n in range(12)]
    assert "Slices of so few images have intervals that are too narrow, or none: weather wet (4)." in (
        document(seen, Task.SEMANTIC).notes)
    labels = [labelled(n, 0.4 + n / 20) for n in range(12)]
    assert any(note.startswith("Intervals without width, as for cat, dog, say")
               for note in document(labels, Task.CLASSIFICATION, ("cat", "dog")).notes)
