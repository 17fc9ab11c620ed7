"""Several people review one run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, expect

from review_ui.guard import SESSION_COOKIE
from segsvc.ledger import effective, users
from segsvc.ledger.records import ReviewPolicy, Role, Verdict
from tests.review_ui.browser.conftest import SCRIPT, Reviewer, on_both, person, served_at

BLIND_AND_DOUBLE = ReviewPolicy(readers=2, blind=True, audit_share=0.0, gold_share=0.0)


@on_both
def test_two_read_without_seeing_each_other_and_a_third_decides_where_they_differ(
    browser: Browser, scripted_run: Path, tmp_path: Path, in_process: Callable[[], None], place: str,
) -> None:
    with served_at(place, scripted_run, tmp_path, policy=BLIND_AND_DOUBLE, is_local=False) as server, ExitStack() as stack:
        def comes(name: str) -> Reviewer:
            reader = users.add(server.ledger, name, Role.REVIEWER, "long enough").reader
            reviewer = stack.enter_context(person(browser, server.page_url))
            session = users.open_session(server.ledger, reader)
            reviewer.page.context.add_cookies([{"name": SESSION_COOKIE, "value": session, "url": server.url}])
            return reviewer

        ann, bob, cat = comes("ann"), comes("bob"), comes(SCRIPT)
        first = ann.open()
        assert bob.open() != first  # nobody has what another looks at
        expect(ann.fact("score")).to_be_hidden()
        ann.press("a")
        ann.all_saved()
        for reader, key in ((bob, "x"), (cat, "a")):
            assert effective.of(server.ledger, server.run_id, [first]) == {}
            assert reader.open(f"?candidate={first}") == first
            expect(reader.fact("size")).to_be_visible()
            for hidden in ("score", "decided"):
                expect(reader.fact(hidden)).to_be_hidden()
            reader.press(key)
            reader.all_saved()  # another's reading is no conflict
            if reader is bob:
                ann.open(f"?candidate={first}")
                expect(ann.fact("decided")).to_have_text("ann: accepted ")
                expect(ann.fact("score")).to_be_visible()
        assert effective.of(server.ledger, server.run_id, [first])[first].verdict is Verdict.ACCEPTED
        ann.open(f"?candidate={first}")  # now that it is closed, all is seen
        expect(ann.fact("decided")).to_have_text(f"ann: accepted , bob: rejected , {SCRIPT}: accepted ")
        expect(ann.fact("agreement")).to_have_text("0 %")
        cat.page.goto(f"{server.url}/review")
        expect(cat.page.get_by_role("button", name="Log out")).to_contain_text(SCRIPT)
        assert server.history(first) == ["accepted", "rejected", "accepted"]
