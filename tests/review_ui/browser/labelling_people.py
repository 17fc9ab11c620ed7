"""Label sets on the images of a run, and people in front of the label page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from playwright.sync_api import Browser, expect
from sqlalchemy import func, select

from segsvc.ledger import candidates, label_sets, labelling
from segsvc.ledger.label_records import (
    DrawnImage,
    Frame,
    Label,
    Labelling,
    LabelSet,
    LabelTask,
    NewSet,
    ShownCandidate,
)
from segsvc.ledger.records import LOCAL, ImageRecord, Reader
from segsvc.ledger.tables import LABELLINGS
from tests.review_ui.browser.conftest import SCRIPT, Reviewer, Server, person

SET = "street"


def draw_set(server: Server, *, task: LabelTask = LabelTask.OBJECTS, classes: tuple[str, ...] = ("bright", SCRIPT)
             ) -> LabelSet:
    """A label set of the run's eight images in the order of their names, with all its candidates."""
    found = sorted(candidates.page(server.ledger, LOCAL, server.run_id, limit=500).items, key=lambda item: item.image_uri)
    drawn = []
    for uri, items in groupby(found, key=lambda item: item.image_uri):
        some = list(items)
        first = some[0]
        image = ImageRecord(first.image_id, uri, first.image_version, first.width_px, first.height_px, first.frames)
        shown = tuple(ShownCandidate(item.candidate_id, item.class_name, item.box, item.mask_rle, item.score or 0.5)
                      for item in some)
        drawn.append(DrawnImage(uri, uri, image, candidates=shown))
    frame = Frame("frame.parquet", "0" * 64, len(drawn), len(drawn), datetime.now(UTC))
    return label_sets.create(server.ledger, NewSet(SET, task, classes, "file:///images", frame, 7), drawn, units=len(drawn))


def said(server: Server, reader: Reader = LOCAL) -> list[Labelling]:
    """What the person said of images and holds, the first first."""
    return labelling.mine(server.ledger, reader, SET, 500)[::-1]


def labels(server: Server, image_id: str, reader: Reader = LOCAL) -> tuple[Label, ...]:
    """The person's objects on an image."""
    return labelling.find(server.ledger, reader, SET, image_id).labels


def times_said(server: Server) -> int:
    """How often anybody said anything, whether it holds or not."""
    with server.ledger.read() as conn:
        found: int = conn.execute(select(func.count()).select_from(LABELLINGS)).scalar_one()
    return found


class Labeller(Reviewer):
    """A person in front of the label page; the image is 640 x 480 px and fitted."""

    def sees(self, *, after: str | None = None) -> str:
        """The image that is painted, once it is another than `after`."""
        if after is not None:
            expect(self.stage).not_to_have_attribute("data-image", after)
        expect(self.stage).to_have_class("")
        return str(self.stage.get_attribute("data-image"))

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a px of the image is in the window."""
        stage = self.stage.bounding_box()
        assert stage is not None
        scale = min(stage["width"] / 640, stage["height"] / 480)
        return (stage["x"] + stage["width"] / 2 + (x - 320) * scale, stage["y"] + stage["height"] / 2 + (y - 240) * scale)

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.place(x, y))

    def drag(self, *corners: tuple[float, float]) -> None:
        self.page.mouse.move(*self.place(*corners[0]))
        self.page.mouse.down()
        for corner in corners[1:]:
            self.page.mouse.move(*self.place(*corner), steps=3)
        self.page.mouse.up()

    def key(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def has_marked(self, number: int) -> None:
        expect(self.page.locator("#objects li")).to_have_count(number)


@contextmanager
def labeller(browser: Browser, server: Server, **how: Any) -> Iterator[Labeller]:
    """A person who labels; the page may not complain of anything."""
    with person(browser, f"{server.url}/label/{SET}", **how) as reviewer:
        yield Labeller(reviewer.page, reviewer.url)
