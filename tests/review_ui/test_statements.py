"""What a request asks the ledger: never to count rows, nor to pass over them, however many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from segsvc.ledger.records import ReviewPolicy
from tests.review_ui.conftest import Serve, Served
from tests.review_ui.test_labels import make_set

_GROWS_WITH_THE_TABLE = re.compile(r"\bcount\s*\(|\boffset\s+(?!0\b)|\btotal\s*\(", re.IGNORECASE)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """All that is asked of SQLite from here on, as it is asked."""
    said: list[str] = []

    def connected(connection: Any, record: object) -> None:
        connection.set_trace_callback(said.append)

    event.listen(Engine, "connect", connected)
    yield said
    event.remove(Engine, "connect", connected)


def visit_all(served: Served, image_id: str, candidate_id: str) -> int:
    """Opens every route that is read by GET, and all pages; how many."""
    paths = [path for path, methods in served.client.get("/openapi.json").json()["paths"].items() if "get" in methods]
    pages = ["/review", "/review/{run_id}", "/review/{run_id}/cost", "/cost", "/label", "/label/{name}"]
    for path in [*paths, *pages]:
        filled = path.format_map({"run_id": served.run_id, "image_id": image_id, "candidate_id": candidate_id,
                                  "name": "bright" if "/models/" in path else "streets", "set_name": "streets"})
        answer = served.client.get(filled, params={"run": served.run_id, "x0": 0, "y0": 0, "x1": 9, "y1": 9, "width": 9}
                                   if path.endswith(("/candidates", "/region.jpg")) else None)
        assert answer.status_code in (200, 409), (path, answer.status_code, answer.text[:200])
    return len(paths) + len(pages)


def test_no_request_counts_rows_or_passes_over_them(statements: list[str], serve: Serve) -> None:
    served = serve(ReviewPolicy(audit_share=0.5, readers=2))
    image_id = make_set(served)[0]
    [first, second] = served.lease(2)
    assert any(_GROWS_WITH_THE_TABLE.search(each) for each in statements)  # the import has counted: it is heard here
    statements.clear()
    assert served.decide(first, verdict="accepted").status_code == 201
    assert served.decide(second, verdict="rejected").status_code == 201
    served.lease(5, order="random", holding=[first["candidate_id"]])
    assert served.client.post("/v1/label/sets/streets/lease", json={"n": 3}).status_code == 200
    assert served.client.post(f"/v1/images/{image_id}/objects?set=streets", json={
        "class_name": "bright", "box": {"x0": 1, "y0": 2, "x1": 9, "y1": 8}}).status_code == 201
    assert served.client.post(f"/v1/images/{image_id}/done?set=streets", json={"nothing": False}).status_code == 201
    assert visit_all(served, image_id, str(first["candidate_id"])) > 20
    asked = sorted({each for each in statements if _GROWS_WITH_THE_TABLE.search(each)})
    assert not asked, asked
    for table in ("runs", "entries", "decisions", "label_sets", "band_counts"):
        assert any(re.search(rf"\bFROM {table}\b", each) for each in statements), table
