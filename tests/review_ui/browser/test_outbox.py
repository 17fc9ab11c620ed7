"""Verdicts wait in the browser until the server has them: none is lost, none is doubled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from segsvc.ledger import decisions, users
from segsvc.ledger.records import LOCAL, NewDecision, Reader, Role, Verdict
from tests.review_ui.browser.conftest import Reviewer, Server, on_both, person, served_at

BACK = "() => dispatchEvent(new Event('focus'))"


@on_both
def test_verdicts_wait_while_there_is_no_connection_also_when_the_page_is_loaded_anew(
    reviewer: Reviewer, server: Server,
) -> None:
    seen = [reviewer.open()]
    reviewer.page.wait_for_load_state("networkidle")
    server.end()
    seen += [reviewer.press(key) for key in "ax"]
    expect(reviewer.page.locator("#trouble")).to_contain_text("No connection")
    expect(reviewer.page.locator("#waiting")).to_have_text("2 waiting")
    server.begin()
    assert reviewer.open() not in seen[:2]
    reviewer.all_saved()
    assert server.standing() == [(seen[0], "accepted"), (seen[1], "rejected")]


@on_both
def test_undo_without_a_connection_is_kept_in_order(reviewer: Reviewer, server: Server) -> None:
    first = reviewer.open()
    reviewer.page.wait_for_load_state("networkidle")
    server.end()
    reviewer.press("a")
    assert reviewer.press("Backspace") == first
    reviewer.press("x")
    server.begin()
    reviewer.page.evaluate(BACK)
    reviewer.all_saved()
    assert server.history(first) == ["accepted", "withdrawn", "rejected"]
    assert server.standing() == [(first, "rejected")]


@on_both
def test_an_answer_that_was_lost_on_its_way_does_not_double_the_verdict(reviewer: Reviewer, server: Server) -> None:
    lost: list[str] = []

    def lose(route) -> None:
        if route.request.method == "POST" and len(lost) < 3:
            lost.append(route.fetch().text())  # the server has it, the browser never hears of it
            route.abort()
        else:
            route.continue_()

    reviewer.page.route("**/decisions?*", lose)
    first = reviewer.open()
    reviewer.press("a")
    for _ in range(3):
        reviewer.page.evaluate(BACK)
        reviewer.page.wait_for_timeout(200)
    reviewer.all_saved()
    assert len(lost) == 3
    assert server.history(first) == ["accepted"]


@on_both
def test_two_tabs_send_each_verdict_once(reviewer: Reviewer, server: Server) -> None:
    first = reviewer.open()
    reviewer.page.wait_for_load_state("networkidle")
    server.end()
    second = reviewer.press("a")
    reviewer.press("x")
    server.begin()
    other = reviewer.page.context.new_page()
    other.goto(reviewer.url)
    expect(other.locator("#waiting")).to_have_attribute("data-state", "calm")
    reviewer.page.evaluate(BACK)
    reviewer.all_saved()
    assert server.standing() == [(first, "accepted"), (second, "rejected")]
    assert (server.history(first), server.history(second)) == (["accepted"], ["rejected"])


def test_what_was_decided_in_another_tab_is_not_asked_again(reviewer: Reviewer, server: Server) -> None:
    reviewer.open()
    reviewer.page.wait_for_load_state("networkidle")
    other = Reviewer(reviewer.page.context.new_page(), server.page_url)
    decided = [other.open(), *(other.press("a") for _ in range(5))][:5]
    other.all_saved()
    other.page.close()
    assert not {reviewer.press("x") for _ in range(5)} & set(decided)
    reviewer.all_saved()
    assert other.complaints == []


@on_both
def test_a_verdict_that_came_second_shows_both_and_the_person_chooses(reviewer: Reviewer, server: Server) -> None:
    other = Reader(0, "local", LOCAL.role)

    def decided_meanwhile(candidate_id: str) -> None:
        decisions.decide(server.ledger, other, candidate_id, NewDecision(Verdict.REJECTED), if_match="*")

    first = reviewer.open()
    decided_meanwhile(first)
    second = reviewer.press("a")
    waiting = reviewer.page.locator("#waiting")
    expect(waiting).to_have_text("1 verdict to look at")
    decided_meanwhile(second)
    reviewer.press("a")
    expect(waiting).to_have_text("2 verdicts to look at")
    reviewer.open()
    expect(waiting).to_have_text("2 verdicts to look at")
    waiting.click()
    rows = reviewer.page.locator("#waiting-rows li")
    expect(reviewer.page.locator("#waiting-words")).to_contain_text("Nothing is lost: choose.")
    expect(rows.first).to_contain_text("You: ✓ accepted")
    expect(rows.first).to_contain_text("local: ✗ rejected")
    rows.first.get_by_role("button", name="Leave theirs").click()
    rows.first.get_by_role("button", name="Send mine as well").click()
    reviewer.all_saved()
    assert (server.history(first), server.history(second)) == (["rejected"], ["rejected", "accepted"])


@pytest.mark.parametrize("status", [500, 503, 507])
def test_what_the_server_cannot_store_now_is_sent_again(reviewer: Reviewer, server: Server, status: int) -> None:
    reviewer.page.route("**/decisions?*", lambda route: route.fulfill(
        status=status, content_type="application/problem+json", body='{"title": "", "detail": "Nothing was stored."}'))
    first = reviewer.open()
    reviewer.press("a")
    expect(reviewer.page.locator("#trouble")).to_contain_text("disk is full" if status == 507 else "Nothing was stored.")
    expect(reviewer.page.locator("#waiting")).to_have_text("1 waiting")
    reviewer.page.unroute("**/decisions?*")
    reviewer.all_saved()
    assert server.standing() == [(first, "accepted")]


@on_both
def test_verdicts_wait_for_a_login_that_ended_and_only_for_their_own_person(
    browser: Browser, scripted_run: Path, tmp_path: Path, in_process: Callable[[], None], place: str,
) -> None:
    with served_at(place, scripted_run, tmp_path, is_local=False) as server:
        ada = users.add(server.ledger, "ada", Role.REVIEWER, "correct horse battery").reader
        bob = users.add(server.ledger, "bob", Role.REVIEWER, "staple staple staple").reader
        server.reader = ada
        with person(browser, server.page_url) as reviewer:
            page = reviewer.page

            def log_in(name: str, password: str) -> None:
                page.get_by_label("Name").fill(name)
                page.get_by_label("Password").fill(password)
                page.get_by_role("button", name="Log in").click()

            page.goto(server.page_url)
            log_in("ada", "wrong")
            expect(page.get_by_role("alert")).to_be_visible()
            log_in("ada", "correct horse battery")
            first = reviewer.sees()
            page.context.clear_cookies()
            second = reviewer.press("a")
            expect(page.locator("#trouble")).to_contain_text("Your login has ended")
            page.locator("#trouble-login").click()
            log_in("bob", "staple staple staple")
            reviewer.sees()
            reviewer.all_saved()
            page.locator("#waiting").click()
            expect(page.locator("#waiting-words")).to_contain_text("Verdicts of ada wait here until ada logs in.")
            assert server.standing() == decisions.mine(server.ledger, bob, server.run_id, 10) == []
            page.context.clear_cookies()
            page.goto(server.page_url)
            log_in("ada", "correct horse battery")
            assert reviewer.sees() != first
            reviewer.all_saved()
            assert server.standing() == [(first, "accepted")]
            assert second != first
