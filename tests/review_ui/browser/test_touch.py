"""A person reviews on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from playwright.sync_api import Browser

from tests.review_ui.browser.conftest import Reviewer, Server, person

PHONE = {"viewport": {"width": 360, "height": 720}, "has_touch": True, "is_mobile": True}
Fingers = Sequence[tuple[float, float]]  # where each is, in CSS px


@pytest.fixture
def toucher(browser: Browser, server: Server) -> Iterator[Reviewer]:
    with person(browser, server.page_url, **PHONE) as reviewer:
        yield reviewer


def touch(reviewer: Reviewer, path: Sequence[Fingers]) -> None:
    """Puts fingers down, moves them, and lifts them."""
    session = reviewer.page.context.new_cdp_session(reviewer.page)
    for step, fingers in enumerate(path):
        session.send("Input.dispatchTouchEvent", {"type": "touchMove" if step else "touchStart", "touchPoints": [
            {"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.mark.parametrize(("x", "y", "verdict"), [(150, 0, "accepted"), (-150, 10, "rejected"), (0, -150, "unsure")])
def test_a_swipe_decides(toucher: Reviewer, server: Server, x: int, y: int, verdict: str) -> None:
    first = toucher.open()
    touch(toucher, [[(180 + x * step / 6, 300 + y * step / 6)] for step in range(7)])
    toucher.sees(after=first)
    toucher.all_saved()
    assert server.standing() == [(first, verdict)]


def test_two_fingers_zoom_and_move_and_decide_nothing(toucher: Reviewer, server: Server) -> None:
    first = toucher.open()
    touch(toucher, [[(180 - apart, 300 + apart), (180 + apart, 300 + apart)] for apart in range(30, 121, 10)])
    kept = json.loads(toucher.page.evaluate("() => localStorage['segsvc.view']"))
    assert kept["zoom"] == pytest.approx(4, rel=0.05)  # as far apart as 4 times
    assert toucher.sees() == first
    toucher.page.get_by_role("button", name="Accept").click()
    toucher.sees(after=first)
    toucher.all_saved()
    assert server.standing() == [(first, "accepted")]
