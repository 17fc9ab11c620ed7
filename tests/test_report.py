from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from segsvc import report_charts as charts
from segsvc.errors import ConfigError
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.quality.cost import Reading, cost, expected
from segsvc.quality.missed import Audited, MissedImages, bound_missed
from segsvc.report import (
    MOST_EXAMPLES,
    MOST_PICTURE_BYTES,
    ClassReport,
    Example,
    ExampleCandidate,
    Failure,
    ImageCounts,
    ModelFacts,
    RunReport,
    StageTime,
    data_uri,
    histogram,
    image_uncertainty,
    render,
    shown_examples,
    uncertainty,
    write_report,
)
from segsvc.types import Band, Box, ExtractionCounts
from tests.calibrated import PACE, RECALLS, point, proof

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}]]>&amp;\u202e\n"
THRESHOLDS = ClassThresholds(flag_at=0.25, accept_at=0.75)
VOID = {"meta", "img", "br", "link", "input", "hr"}
POINT = OperatingPoint(basis=Basis.MEASURED, classes={"a": THRESHOLDS})


def jpeg(seed: int = 0, side_px: int = 32) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def example(uncertain: float = 0.9, *, picture: bytes | None = None, uri: str = "file:///a.tif",
            whole: bool = False) -> Example:
    found = (ExampleCandidate("nucleus", 0.5, 0.625, Band.REVIEW),
             ExampleCandidate("nucleus", 0.875, None, Band.ACCEPTED))
    return Example(picture or jpeg(), uri, 1, Box(0, 0, 512, 512), 2048, 1024, uncertain, found, 3, whole)


def made_view() -> RunReport:
    return RunReport(
        title="Nuclei over plates", run_id="ab" * 16, state="succeeded", input="/data/plates",
        model=ModelFacts("nuclei", "1", "cd" * 32, "semantic", "openvino", "Apache-2.0"),
        images=ImageCounts(listed=1013, done=900, empty=100, failed=11, quarantined=2),
        classes=(ClassReport("nucleus", 5001, 702, 31, tuple(range(40)), THRESHOLDS),
                 ClassReport("crack", 0, 0, 0, (0,) * 40)),
        wall_s=250.0, wording="measured, not guaranteed", filtered=ExtractionCounts(5734, 812, 17),
        skipped={"hidden": 4}, stages=(StageTime("model", 30.0), StageTime("decode", 10.0)), examples=(example(),),
        failures=tuple(Failure(f"file:///{number}.jpg", "corrupt", "damaged") for number in range(13)),
        started_at=datetime(2026, 1, 5, 14, 3, 22, tzinfo=UTC), finished_at=datetime(2026, 1, 5, 14, 7, 32, tzinfo=UTC),
        machine={"cores": "2"}, versions={"segsvc": "0.1.0"})


def costly_view() -> RunReport:
    calibration = point(nucleus=proof(RECALLS, beyond={0.98: 30, 0.99: None}))
    found = cost(calibration, expected(1000), images=1000, pace=PACE, reading=Reading())
    missed = bound_missed([Audited("crack", 100, 10, 1, 8, 0), Audited("nucleus", 5000, 50, 0, 50, 0)], confidence=0.95)
    return replace(made_view(), cost=found, cost_wording="guaranteed as calibrated", in_force=0.95, missed=missed,
                   missed_images=(MissedImages("plates", "image", bound_missed([Audited("crack", 900, 20, 1, 19, 0)],
                                                                               confidence=0.95)),))


def hostile_view() -> RunReport:
    found = tuple(replace(one, class_name=HOSTILE) for one in example().candidates)
    return replace(
        made_view(), title=HOSTILE, input=HOSTILE, state=HOSTILE, run_id=HOSTILE, wording=HOSTILE, note=HOSTILE,
        model=ModelFacts(*([HOSTILE] * 9)), classes=(ClassReport(HOSTILE, 1, 2, 3, (6,), THRESHOLDS),),
        stages=(StageTime(HOSTILE, 1.0),), failures=(Failure(HOSTILE, HOSTILE, HOSTILE),), skipped={HOSTILE: 1},
        examples=(replace(example(uri="file:///" + HOSTILE), candidates=found),), machine={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE})


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, Mapping[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), tag
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def named(self, tag: str) -> list[Mapping[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


VIEWS = pytest.mark.parametrize("view", [made_view(), costly_view(), hostile_view(), replace(
    made_view(), classes=(), examples=(), failures=(), stages=(), images=ImageCounts(0, 0, 0, 0, 0), wall_s=0.0,
    wording="", skipped={}, started_at=None, finished_at=None, machine={}, versions={})],
                                ids=["full", "costly", "hostile", "bare"])


@VIEWS
def test_the_page_is_well_formed_and_loads_and_runs_nothing(view: RunReport) -> None:
    page = Page(render(view))
    assert not page.named("script") and not page.named("link") and not page.named("iframe") and not page.named("object")
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,", "data:image/png;base64,")), value
    style = re.search(r"<style>(.*?)</style>", render(view), re.DOTALL)
    assert style is not None
    assert not re.search(r"@import|https?:|url\((?!#)", style[1])
    assert "default-src 'none'" in str([attributes.get("content") for attributes in page.named("meta")])


@VIEWS
def test_the_page_can_be_read_by_everybody(view: RunReport) -> None:
    page = Page(render(view))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.named("html") == [{"lang": "en"}]
    assert all(attributes.get("alt") for attributes in page.named("img"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.named("th"))
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in page.named("svg"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in page.named("a"):
        assert str(attributes["href"])[1:] in ids
    for _, attributes in page.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids


def test_what_users_wrote_is_text_and_nothing_else() -> None:
    html = render(hostile_view())
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "49" not in Page(html).text().replace("0.49", "")
    assert Page(html).text().count("alert(1)") > 20


def test_the_report_holds_the_counts() -> None:
    text = Page(render(made_view())).text()
    for shown in ("702", "5,001", "31", "1,000 of 1,013 listed", "13 2 quarantined", "4 min 10 s", "4 images/s",
                  "Thresholds: measured, not guaranteed.", "Below the score floor, not stored 812",
                  "Below the smallest area, not stored 17", "hidden 4", "Stored as candidates 5,734",
                  "model 30 s 30 ms 75.0 %", "decode 10 s 10 ms 25.0 %", "13 images could not be worked on",
                  "nucleus 0.250 0.750 31 702 5,001 5,734", "2026-01-05 14:07:32 UTC", "0.500 0.625 review",
                  "2,048 × 1,024 px, shown: x 0 to 512, y 0 to 512 · 3 candidates", "and 1 more"):
        assert shown in text, shown


def test_only_the_first_failures_are_listed_and_all_are_counted() -> None:
    view = replace(made_view(), images=ImageCounts(5000, 0, 0, 5000, 0),
                   failures=tuple(Failure(f"file:///{number}.jpg", "corrupt", "damaged") for number in range(5000)))
    text = Page(render(view)).text()
    assert "5,000 images could not be worked on; the first 200 are listed" in text
    assert "file:///199.jpg" in text and "file:///200.jpg" not in text


def test_a_run_of_a_thousand_classes_shows_those_with_the_most_to_review() -> None:
    classes = tuple(ClassReport(f"class {number}", 0, number, 0, (number,) * 40) for number in range(1000))
    page = Page(render(replace(made_view(), classes=classes)))
    assert "800 more classes are left out" in page.text()
    assert "class 999" in page.text() and "class 100 " not in page.text()
    assert sum(attributes.get("class") == "chart" for attributes in page.named("figure")) == 12


def test_the_same_view_gives_the_same_bytes(tmp_path: Path) -> None:
    write_report(made_view(), tmp_path / "one.html")
    write_report(made_view(), tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert (tmp_path / "one.html").read_text("utf-8") == render(made_view())


def test_a_report_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="report"):
        write_report(made_view(), tmp_path / "file" / "report.html")


def test_the_most_uncertain_examples_are_shown_and_pictures_stay_small() -> None:
    many = [example(number / 100, uri=f"file:///{number}") for number in range(100)]
    shown = shown_examples(many)
    assert [one.uncertainty for one in shown] == sorted((one.uncertainty for one in many), reverse=True)[:MOST_EXAMPLES]
    large = [example(1.0, picture=b"\xff\xd8\xff" + bytes(MOST_PICTURE_BYTES // 3)) for _ in range(9)]
    assert len(shown_examples(large)) == 2
    html = render(replace(made_view(), examples=tuple(large)))
    assert len(html) < 5_000_000
    assert "7 more are left out" in Page(html).text()


def test_examples_of_a_classifier_have_bars() -> None:
    page = Page(render(replace(made_view(), examples=(example(whole=True),))))
    assert sum(attributes.get("class") == "score-bar" for attributes in page.named("svg")) == 2
    assert "Outlines are" not in page.text()


def test_a_picture_is_a_jpeg_or_a_png() -> None:
    assert data_uri(jpeg()).startswith("data:image/jpeg;base64,")
    assert data_uri(b"\x89PNG\r\n\x1a\n").startswith("data:image/png;base64,")
    with pytest.raises(ValueError, match="JPEG or a PNG"):
        data_uri(b"<svg onload=alert(1)>")


def test_uncertainty_falls_with_the_distance_to_the_nearest_threshold() -> None:
    assert uncertainty(0.25, THRESHOLDS) == uncertainty(0.75, THRESHOLDS) == 1.0
    assert uncertainty(0.5, THRESHOLDS) == 0.75
    assert uncertainty(1.0, THRESHOLDS) == 0.75
    assert uncertainty(1.0, ClassThresholds(flag_at=0.25)) == 0.25
    assert uncertainty(0.5, None) == 1.0


def test_an_image_is_as_uncertain_as_its_most_uncertain_candidate() -> None:
    assert image_uncertainty([("a", 0.5), ("a", 0.7)], POINT) == pytest.approx(0.95)
    assert image_uncertainty([("b", 0.5), ("a", 1.0)], POINT) == 1.0
    assert image_uncertainty([("a", 0.3)], None) == pytest.approx(0.8)
    assert image_uncertainty([], POINT) == 0.0


def test_a_histogram_counts_every_score_once() -> None:
    assert histogram([0.0, 0.24, 0.25, 0.999, 1.0], bins=4) == (2, 1, 0, 2)


def test_a_chart_marks_bands_and_thresholds() -> None:
    chart = charts.score_chart((0, 10, 5, 20), THRESHOLDS)
    assert [zone.band for zone in chart.zones] == [Band.REJECTED, Band.REVIEW, Band.ACCEPTED]
    assert sum(zone.width for zone in chart.zones) == pytest.approx(charts.PLOT_WIDTH, abs=0.1)
    assert [(column.count, column.band) for column in chart.columns] == [
        (10, Band.REVIEW), (5, Band.REVIEW), (20, Band.ACCEPTED)]
    assert chart.columns[2].height == pytest.approx(charts.PLOT_HEIGHT)
    assert [cut.label for cut in chart.cuts] == ["flag 0.250", "accept 0.750"]
    assert [tick.label for tick in chart.y_ticks] == ["0", "10", "20"]


@pytest.mark.parametrize("thresholds", [None, ClassThresholds(flag_at=0.0), ClassThresholds(flag_at=1.0, accept_at=1.0)])
def test_charts_of_extreme_thresholds_cover_the_axis(thresholds: ClassThresholds | None) -> None:
    chart = charts.score_chart((1,) * 40, thresholds)
    assert sum(zone.width for zone in chart.zones) == pytest.approx(charts.PLOT_WIDTH, abs=0.1)
    assert all(zone.width > 0 for zone in chart.zones)


def test_the_bar_of_bands_shows_even_one_candidate_among_a_million() -> None:
    bar = charts.band_bar({Band.ACCEPTED: 1_000_000, Band.REVIEW: 1, Band.REJECTED: 0})
    assert [zone.band for zone in bar] == [Band.REVIEW, Band.ACCEPTED]
    assert bar[0].width > 2
    assert sum(zone.width for zone in bar) == pytest.approx(charts.BAR_WIDTH, abs=0.1)
    assert charts.band_bar({Band.ACCEPTED: 0}) == ()


def test_more_images_than_were_listed_cannot_have_ended() -> None:
    with pytest.raises(ValueError, match="at most 1 images"):
        ImageCounts(listed=1, done=1, empty=1, failed=0, quarantined=0)


def test_what_a_recall_costs_is_drawn_and_said_and_what_is_not_shown_stands_beyond() -> None:
    view = costly_view()
    text = Page(render(view)).text()
    assert "At recall 0.95 you will review 500 candidates of 1,000 images, 15 minutes; to promise 0.98 label 60" in text
    assert "1.8 s a decision (median 1.5), by the latest 40 in this run" in text
    assert view.cost is not None
    chart = charts.cost_chart(view.cost, 0.95)
    assert [dot.x for dot in chart.dots] == sorted(dot.x for dot in chart.dots)
    assert [dot.y for dot in chart.dots] == sorted((dot.y for dot in chart.dots), reverse=True)  # more is higher
    assert chart.cut == chart.dots[-1].x == chart.beyond_from
    assert [dot.label for dot in chart.beyond] == ["+60", "never"]
    inside = charts.COST_WIDTH - charts.COST_RIGHT
    assert all(charts.COST_LEFT <= dot.x <= inside and dot.y >= charts.COST_TOP for dot in (*chart.dots, *chart.beyond))
    lone = replace(view.cost, rows=view.cost.rows[:1], beyond=())
    assert charts.cost_chart(lone, None).dots[0].x == charts.COST_LEFT


def test_what_rules_missed_is_told_with_what_was_read() -> None:
    text = re.sub(r"\s+", " ", Page(render(costly_view())).text())
    assert "crack 56 100 10 9 1" in text  # at most; rejected, in the sample, read, objects
    assert "All classes 625 5,100 60 59 1" in text
    assert "People labelled whole images of the set plates" in text
    assert "crack 192 900 20 20 1" in text
