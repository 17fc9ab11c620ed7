"""Images are counted by listing, for a while."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event

import pytest

from review_ui.input_counts import InputCount, InputCounts
from review_ui.problems import Problem
from tests.listings import make
from tests.s3_servers import Asked, S3Server, Said, UseServer, s3_error, scripted


def test_a_prefix_of_a_bucket_is_counted(weed: S3Server, below: str) -> None:
    client, prefix = weed.client(), below.removeprefix("s3://open/")
    for name in ("a.png", "b/c.tif", "b/d.txt"):
        client.put_object(Bucket="open", Key=f"{prefix}/{name}", Body=b"-")
    assert InputCounts().of(f"{below}/") == InputCount(f"{below}/", 2, 1, whole=True)


def test_no_more_are_counted_than_is_said_and_that_it_is_not_all_is_told(tmp_path: Path) -> None:
    make(tmp_path / "street", *(f"{number}.png" for number in range(5)))
    found = [InputCounts(most=most).of(str(tmp_path / "street")) for most in (3, 5, 6)]
    assert [(each.images, each.whole) for each in found] == [(3, False), (5, True), (5, True)]


def test_a_store_that_does_not_answer_is_waited_for_a_while_and_by_few(use: UseServer) -> None:
    may_go = Event()

    def wait(_: Asked) -> Said:
        may_go.wait(60)
        return s3_error("AccessDenied", 403)

    with scripted(wait) as (server, _):
        use(server)
        counts = InputCounts(patience_s=0.05)
        for _ in range(4):
            assert counts.of("s3://slow/street/") == InputCount("s3://slow/street/", 0, 0, whole=False)
        with pytest.raises(Problem, match="at most 4 listings at once"):
            counts.of("s3://slow/street/")
        may_go.set()
        for _ in range(500):  # their threads end, and make room
            try:
                found = counts.of(str(Path(__file__)))
            except Problem:
                time.sleep(0.02)
                continue
            assert found.skipped == 1
            return
    pytest.fail("no room was made")
