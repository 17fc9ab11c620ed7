"""A person labels whole images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from segsvc.imaging import masks
from segsvc.ledger import users
from segsvc.ledger.label_records import LabelTask
from segsvc.ledger.records import Role
from tests.review_ui.browser.conftest import SCRIPT, Server, on_both, person, served_at
from tests.review_ui.browser.labelling_people import SET, Labeller, draw_set, labeller, labels, said, times_said
from tests.review_ui.browser.test_pages import LOOKS, faults

BACK = "() => dispatchEvent(new Event('focus'))"


@pytest.fixture
def ada(browser: Browser, server: Server) -> Iterator[Labeller]:
    """A person with a mouse and a keyboard, and a set of eight images."""
    draw_set(server)
    with labeller(browser, server) as ada:
        yield ada


@on_both
def test_a_click_is_a_point_a_drag_a_box_and_done_brings_the_next_image(ada: Labeller, server: Server) -> None:
    first = ada.open()
    ada.click(100, 80)
    ada.drag((200, 200), (300, 280))
    ada.has_marked(2)
    second = ada.press("Enter")
    ada.press("n")
    ada.all_saved()
    done, nothing = said(server)
    assert [(each.image_id, each.nothing, each.n_objects) for each in (done, nothing)] == [
        (first, False, 2), (second, True, 0)]
    assert done.seconds is not None
    assert not done.candidates_shown
    point, box = labels(server, first)
    assert point.polygon is not None and point.box is not None and box.box is not None
    assert len(point.polygon) == 24
    assert abs(point.box.x0 + point.box.x1 - 200) <= 4 and abs(point.box.y0 + point.box.y1 - 160) <= 4
    assert (box.polygon, box.class_name) == (None, "bright")
    assert all(abs(got - wanted) <= 2 for got, wanted in zip(
        (box.box.x0, box.box.y0, box.box.x1, box.box.y1), (200, 200, 300, 280), strict=True))
    expect(ada.fact("labelled")).to_have_text("2")


def test_a_double_click_is_one_point(ada: Labeller) -> None:
    ada.open()
    ada.page.mouse.dblclick(*ada.place(100, 80))
    ada.click(200, 80)
    ada.has_marked(2)


def test_an_image_is_never_done_without_a_word_on_what_is_there(ada: Labeller, server: Server) -> None:
    first = ada.open()
    ada.key("Enter")
    ada.said("Nothing is marked")
    ada.click(100, 80)
    ada.has_marked(1)
    ada.key("n")
    ada.said("There are objects")
    assert ada.sees() == first
    assert times_said(server) == 0


def test_a_points_size_is_chosen_by_keys_and_kept(ada: Labeller, server: Server) -> None:
    first = ada.open()
    words = ada.page.locator("#point-words")
    before = int(words.inner_text().split()[0])
    ada.key(*"....,")
    now = int(words.inner_text().split()[0])
    assert now > before
    ada.open()
    expect(words).to_have_text(f"{now} px")
    ada.click(320, 240)
    ada.press("Enter")
    ada.all_saved()
    box = labels(server, first)[0].box
    assert box is not None
    assert abs(box.width_px - now) <= 2


def test_a_polygon_closes_on_its_first_corner_or_by_enter(ada: Labeller, server: Server) -> None:
    first = ada.open()
    ada.key("p")
    for corner in ((100, 100), (180, 100), (180, 160), (100, 100)):
        ada.click(*corner)
    ada.has_marked(1)
    ada.key("p")
    for corner in ((300, 100), (380, 100), (390, 390), (380, 160)):
        ada.click(*corner)
    ada.key("Backspace")  # takes the last corner back
    ada.key("Enter")
    ada.has_marked(2)
    ada.key("p", "Escape")
    ada.press("Enter")
    ada.all_saved()
    assert [len(each.polygon or ()) for each in labels(server, first)] == [3, 3]


@on_both
def test_a_brush_paints_a_mask(ada: Labeller, server: Server) -> None:
    first = ada.open()
    ada.key("b")
    ada.drag((200, 200), (260, 200))
    ada.key("Enter")
    ada.has_marked(1)
    ada.press("Enter")
    ada.all_saved()
    painted, = labels(server, first)
    assert painted.mask_rle is not None and painted.box is not None
    box = painted.box
    area = masks.area_px(painted.mask_rle.encode(), height_px=box.height_px, width_px=box.width_px)
    assert 60 <= box.width_px <= 90
    assert 0.7 * box.area_px < area < box.area_px
    assert ada.press("Backspace") == first  # it is drawn again as the server has it
    ada.has_marked(1)


def test_numbers_choose_the_class_of_what_comes_next_or_of_what_is_selected(ada: Labeller, server: Server) -> None:
    first = ada.open()
    ada.key("2")
    ada.click(100, 80)
    ada.key("1")
    ada.click(200, 80)
    ada.click(300, 80)
    ada.key("Tab", "Tab", "2")  # the second one
    ada.key("Tab", "Delete")  # the third one
    ada.has_marked(2)
    ada.press("Enter")
    ada.all_saved()
    assert [each.class_name for each in labels(server, first)] == [SCRIPT, SCRIPT]


def test_the_tab_key_leaves_the_marks_at_their_end(ada: Labeller) -> None:
    ada.open()
    ada.click(100, 80)
    ada.has_marked(1)
    ada.key("Tab")
    expect(ada.page.locator("#objects button[aria-pressed=true]")).to_have_count(1)
    ada.key("Tab")
    expect(ada.page.locator("#objects button[aria-pressed=true]")).to_have_count(0)
    assert ada.page.evaluate("() => document.activeElement !== document.body")


def test_a_selected_box_is_moved_and_resized_by_dragging(ada: Labeller, server: Server) -> None:
    first = ada.open()
    ada.drag((100, 100), (200, 180))
    ada.click(100, 140)  # its outline
    ada.drag((150, 140), (190, 160))
    ada.drag((240, 200), (300, 260))
    ada.has_marked(1)
    ada.press("Enter")
    ada.all_saved()
    box = labels(server, first)[0].box
    assert box is not None
    assert all(abs(got - wanted) <= 3 for got, wanted in zip(
        (box.x0, box.y0, box.x1, box.y1), (140, 120, 300, 260), strict=True))


@on_both
def test_undo_takes_back_marks_and_then_goes_back_through_the_images_also_after_loading_anew(
    ada: Labeller, server: Server,
) -> None:
    seen = [ada.open()]
    for number in range(3):
        for place in range(number + 1):
            ada.click(100 + 60 * place, 80)
        ada.has_marked(number + 1)
        seen.append(ada.press("Enter"))
    ada.click(100, 200)
    ada.has_marked(1)
    ada.key("Backspace")
    ada.has_marked(0)
    assert ada.press("Backspace") == seen[2]
    ada.has_marked(3)
    ada.all_saved()
    ada.open(f"?image={seen[3]}")
    assert [ada.press("Backspace") for _ in range(3)] == seen[2::-1]
    ada.has_marked(1)
    ada.key("Tab", "Delete")
    ada.click(500, 300)
    ada.click(560, 300)
    ada.has_marked(2)
    assert ada.press("Enter") == seen[1]  # and on through those that were labelled
    assert ada.press("s") == seen[2]
    ada.all_saved()
    assert {each.image_id: each.n_objects for each in said(server)} == {seen[0]: 2, seen[1]: 2, seen[2]: 3}
    assert times_said(server) == 4


def test_at_the_first_image_there_is_nothing_to_go_back_to(ada: Labeller) -> None:
    ada.open()
    ada.key("Backspace")
    ada.said("There is no image before")


def test_what_is_not_done_yet_is_there_after_loading_anew_and_is_taken_back_step_by_step(ada: Labeller) -> None:
    first = ada.open()
    ada.click(100, 80)
    ada.click(200, 80)
    ada.has_marked(2)
    assert ada.open(f"?image={first}") == first
    ada.has_marked(2)
    ada.key("Backspace")
    ada.has_marked(1)
    ada.key("Backspace")
    ada.has_marked(0)
    assert ada.page.evaluate("() => Object.keys(localStorage).filter((key) => key.includes('draft'))") == []


@on_both
def test_labels_wait_while_there_is_no_connection_also_when_the_page_is_loaded_anew(ada: Labeller, server: Server) -> None:
    seen = [ada.open()]
    ada.page.wait_for_load_state("networkidle")
    server.end()
    ada.click(100, 80)
    seen.append(ada.press("Enter"))
    seen.append(ada.press("n"))
    expect(ada.page.locator("#trouble")).to_contain_text("2 answers kept in this browser")
    server.begin()
    assert ada.open() not in seen[:2]
    ada.all_saved()
    assert [(each.image_id, each.n_objects) for each in said(server)] == [(seen[0], 1), (seen[1], 0)]
    assert times_said(server) == 2


def test_the_list_of_runs_sends_what_waits_as_well(ada: Labeller, server: Server) -> None:
    ada.open()
    ada.page.wait_for_load_state("networkidle")
    server.end()
    ada.press("n")
    server.begin()
    ada.page.goto(server.url + "/review")
    ada.all_saved()
    assert times_said(server) == 1


@on_both
def test_an_answer_that_was_lost_on_its_way_does_not_double_the_labels(ada: Labeller, server: Server) -> None:
    lost: list[str] = []

    def lose(route: Route) -> None:
        if len(lost) < 2:
            lost.append(route.fetch().text())  # the server has it, the browser never hears of it
            route.abort()
        else:
            route.continue_()

    ada.page.route("**/done?*", lose)
    ada.open()
    ada.click(100, 80)
    ada.press("Enter")
    for _ in range(2):
        ada.page.evaluate(BACK)
        ada.page.wait_for_timeout(200)
    ada.all_saved()
    assert (len(lost), times_said(server)) == (2, 1)


def test_labels_that_the_server_refused_are_opened_again_as_they_were_and_said_anew(ada: Labeller, server: Server) -> None:
    spoilt: list[str] = []

    def spoil(route: Route) -> None:
        body = route.request.post_data_json
        body["objects"][0]["class_name"] = "of another set"
        spoilt.append(str(body["request_id"]))
        route.continue_(post_data=json.dumps(body))

    ada.page.route("**/done?*", spoil, times=1)
    first = ada.open()
    ada.click(100, 80)
    ada.key("b")
    ada.drag((200, 200), (260, 240))
    ada.key("Enter")
    ada.has_marked(2)
    ada.press("Enter")
    waiting = ada.page.locator("#waiting")
    expect(waiting).to_have_text("1 answer to look at")
    ada.open()  # anew: nothing of it is on the page any more
    expect(waiting).to_have_text("1 answer to look at")
    waiting.click()
    expect(ada.page.locator("#waiting-rows")).to_contain_text("of another set")
    ada.page.get_by_role("link", name="Open it").click()
    expect(ada.stage).to_have_attribute("data-image", first)
    ada.said("Mark it anew, and say done again.")
    ada.has_marked(2)
    ada.click(400, 80)
    ada.press("Enter")
    ada.all_saved()
    assert len(spoilt) == 1
    point, brushed, later = labels(server, first)
    assert (point.polygon is not None, brushed.mask_rle is not None, later.polygon is not None) == (True, True, True)
    assert (times_said(server), said(server)[-1].n_objects) == (1, 3)


def test_an_image_that_another_tab_has_labelled_makes_room_unless_something_is_marked_on_it(
        ada: Labeller, server: Server) -> None:
    first = ada.open()
    ada.page.wait_for_load_state("networkidle")
    other = Labeller(ada.page.context.new_page(), ada.url)
    assert other.open() == first
    second = other.press("n")
    assert ada.sees(after=first) == second
    ada.click(100, 80)
    ada.has_marked(1)
    other.press("n")
    other.all_saved()
    ada.has_marked(1)
    assert ada.sees() == second
    ada.press("Enter")
    ada.all_saved()
    assert [(each.image_id, each.n_objects) for each in said(server)] == [(first, 0), (second, 1)]
    assert times_said(server) == 3
    assert other.complaints == []


def test_a_key_that_is_pressed_twice_or_held_down_speaks_of_one_image(ada: Labeller, server: Server) -> None:
    first = ada.open()
    ada.page.evaluate("""() => { for (let n = 0; n < 4; n++)
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true })); }""")
    ada.sees(after=first)
    for _ in range(4):
        ada.page.keyboard.down("n")
    ada.page.keyboard.up("n")
    ada.all_saved()
    assert times_said(server) == 2  # one by the first of the four, one by the key that was held


def test_the_next_three_images_are_fetched_before_they_are_wanted(ada: Labeller) -> None:
    ada.open()
    ada.page.wait_for_load_state("networkidle")
    ada.page.context.set_offline(True)
    for _ in range(3):
        ada.press("n")
    ada.page.context.set_offline(False)
    ada.page.evaluate(BACK)
    ada.all_saved()


def test_every_image_is_fitted_while_contrast_stays(ada: Labeller) -> None:
    ada.open()
    ada.key("+", "+", "c", "]")
    ada.said("Mark")
    ada.press("n")
    expect(ada.page.locator("#map")).to_be_hidden()  # which shows where in the image one is
    assert ada.page.locator("#picture").get_attribute("style") == "filter: contrast(1.6);"
    ada.key("0")
    ada.said("Zoom 100 %")


def test_several_classes_of_a_whole_image_are_said_by_number_keys(browser: Browser, server: Server) -> None:
    draw_set(server, task=LabelTask.CLASSES, classes=("car", "tree", SCRIPT))
    with labeller(browser, server) as ada:
        first = ada.open()
        ada.key("1", "3", "2", "2")
        expect(ada.page.locator("#classes [aria-pressed=true]")).to_have_count(2)
        second = ada.press("Enter")
        ada.press("n")
        ada.all_saved()
        assert [(each.class_name, each.box) for each in labels(server, first)] == [("car", None), (SCRIPT, None)]
        assert [(each.image_id, each.nothing) for each in said(server)] == [(first, False), (second, True)]
        assert ada.press("Backspace") == second
        ada.press("Backspace")
        expect(ada.page.locator("#classes [aria-pressed=true]")).to_have_count(2)


def test_what_the_model_found_is_hidden_until_it_is_asked_for_and_that_is_kept(ada: Labeller, server: Server) -> None:
    with ada.page.expect_response("**/lease") as leased:
        first = ada.open()
    assert {each["candidates"] for each in map(dict, leased.value.json()["items"])} == {None}
    expect(ada.page.locator("aside .model")).to_contain_text("people agree too readily")
    ada.key("v")
    ada.said("candidates are shown")
    expect(ada.page.locator("#candidates-count")).not_to_be_empty()
    ada.key("Tab", "a")
    ada.has_marked(1)
    ada.key("Tab", "Tab", "x", "Escape")  # its own mark, then the next candidate
    ada.key("v")
    ada.press("Enter")
    ada.press("n")
    ada.all_saved()
    taken, = labels(server, first)
    assert taken.candidate_id is not None and taken.mask_rle is not None
    item = server.item(taken.candidate_id)
    assert (taken.box, taken.mask_rle, taken.class_name) == (item.box, item.mask_rle, item.class_name)
    assert [each.candidates_shown for each in said(server)] == [True, False]


def test_an_image_that_is_gone_is_said_and_can_be_skipped(ada: Labeller, server: Server) -> None:
    first = ada.open()
    gone = re.compile(f"/v1/images/{first}/")
    ada.page.route(gone, lambda route: route.continue_(url=route.request.url.replace(first, "0" * 32)))
    ada.open(f"?image={first}")
    expect(ada.page.locator("#gone")).to_contain_text("skip it")
    ada.key("n")
    ada.said("What is not seen cannot be labelled")
    assert ada.press("s") != first
    for _ in range(6):
        ada.press("n")
    ada.key("n")
    expect(ada.page.get_by_role("heading", name="You are up to date")).to_be_visible()
    ada.all_saved()
    ada.page.unroute(gone)
    ada.page.get_by_role("button", name="Look again at 1 skipped").click()
    assert ada.sees() == first
    assert first not in {each.image_id for each in said(server)}


def test_a_link_shows_its_image_and_the_browsers_back_button_the_one_before(ada: Labeller) -> None:
    first = ada.open()
    second = ada.press("n")
    assert f"image={second}" in ada.page.url
    ada.page.go_back()
    assert ada.sees(after=second) == first
    ada.said("You labelled this: nothing")


def test_keys_are_remapped_without_those_of_the_review(ada: Labeller, server: Server) -> None:
    ada.open()
    ada.key("?")
    ada.page.locator("#key-nothing").click()
    ada.key("q")
    ada.key("Escape")
    expect(ada.page.locator("#nothing-button kbd")).to_have_text("q")
    ada.press("q")
    ada.all_saved()
    assert times_said(server) == 1
    ada.page.goto(server.page_url)
    expect(ada.page.locator(".verdicts .accepted kbd")).to_have_text("a")


def test_scripts_in_classes_and_file_names_are_shown_as_text(ada: Labeller) -> None:
    ada.open()
    while ada.fact("image").inner_text() != "<script>alert(2)<script>.png":
        ada.press("n")
    ada.key("2")
    ada.click(100, 80)
    expect(ada.page.locator("#objects")).to_contain_text(SCRIPT)
    expect(ada.page.locator("#classes")).to_contain_text(SCRIPT)
    ada.key("Enter")
    ada.said("<script>alert(2)<script>.png")
    expect(ada.page.locator("#latest")).to_contain_text("<script>alert(2)<script>.png")
    assert ada.page.locator("img[src=x], [onerror]").count() == 0


@on_both
def test_two_people_get_different_images_and_each_sees_only_their_own(
    browser: Browser, scripted_run: Path, tmp_path: Path, in_process: Callable[[], None], place: str,
) -> None:
    with served_at(place, scripted_run, tmp_path, is_local=False) as server:
        draw_set(server)
        readers = [users.add(server.ledger, name, Role.REVIEWER, "correct horse battery").reader for name in ("ada", "bob")]
        seen = []
        for reader in readers:
            with labeller(browser, server) as someone:
                someone.page.goto(someone.url)
                someone.page.get_by_label("Name").fill(reader.name)
                someone.page.get_by_label("Password").fill("correct horse battery")
                someone.page.get_by_role("button", name="Log in").click()
                first = someone.sees()
                someone.click(100, 80)
                someone.has_marked(1)
                someone.page.context.clear_cookies()
                someone.press("Enter")
                expect(someone.page.locator("#trouble")).to_contain_text("Your login has ended")
                someone.page.locator("#trouble-login").click()
                someone.page.get_by_label("Name").fill(reader.name)
                someone.page.get_by_label("Password").fill("correct horse battery")
                someone.page.get_by_role("button", name="Log in").click()
                someone.sees()
                someone.all_saved()
                seen.append(first)
        assert seen[0] != seen[1]
        assert [[each.image_id for each in said(server, reader)] for reader in readers] == [[seen[0]], [seen[1]]]


def test_the_rings_of_a_mask_enclose_exactly_its_px(ada: Labeller) -> None:
    ada.open()
    wrong = """async () => {
        const { encode } = await import("/static/rle.js"), { masked } = await import("/static/label_shapes.js");
        const w = 23, h = 17, pen = new OffscreenCanvas(w, h).getContext("2d");
        // a ring with a dot in its hole, two px that touch at a corner, and the edge of the box
        const on = (u, v) => (Math.abs(Math.hypot(u - 8, v - 8) - 6) < 1.5 || (u === 8 && v === 8)
            || (u === 20 && v === 3) || (u === 21 && v === 4) || u === 22);
        const flags = Uint8Array.from({ length: w * h }, (_, n) => on(Math.floor(n / h), n % h));
        const { outline } = masked({ x0: 100, y0: 50, x1: 100 + w, y1: 50 + h }, encode(flags)), path = new Path2D();
        for (const ring of outline) {
            ring.forEach(([x, y], n) => path[n ? "lineTo" : "moveTo"](x - 100, y - 50));
            path.closePath();
        }
        pen.fill(path, "evenodd");
        const { data } = pen.getImageData(0, 0, w, h);
        return flags.filter((flag, n) => data[(n % h * w + Math.floor(n / h)) * 4 + 3] !== flag * 255).length;
    }"""
    assert ada.page.evaluate(wrong) == 0


def test_more_classes_than_there_are_number_keys_are_clicked_or_get_a_key(browser: Browser, server: Server) -> None:
    draw_set(server, task=LabelTask.CLASSES, classes=tuple(f"class {number}" for number in range(12)))
    with labeller(browser, server) as ada:
        first = ada.open()
        ada.page.get_by_role("button", name="class 11").click()
        ada.key("?")
        ada.page.locator("#key-class11").click()
        ada.key("w")
        ada.key("Escape")
        ada.key("w")
        ada.press("Enter")
        ada.all_saved()
        assert [each.class_name for each in labels(server, first)] == ["class 11", "class 10"]


def test_all_scripts_come_from_here_and_are_asked_for_at_once(ada: Labeller, server: Server) -> None:
    asked: list[str] = []
    ada.page.on("request", lambda request: asked.append(request.url))
    ada.open()
    ada.page.wait_for_load_state("networkidle")
    assert [url for url in asked if not url.startswith(server.url)] == []
    scripts = {url.removeprefix(server.url) for url in asked if url.endswith(".js")}
    named = ada.page.evaluate("""() => [...document.querySelectorAll("link[rel=modulepreload], script")]
        .map((each) => each.getAttribute("href") || each.getAttribute("src"))""")
    assert scripts == set(named)
    used = ada.page.evaluate("() => performance.getEntriesByType('resource').map((each) => each.name)")
    assert {url.removeprefix(server.url) for url in used if url.endswith(".js")} == scripts


PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


def test_on_a_touch_screen_a_tap_is_a_point_one_finger_draws_a_box_and_two_zoom(browser: Browser, server: Server) -> None:
    draw_set(server)
    with labeller(browser, server, **PHONE) as ada:
        first = ada.open()
        ada.page.touchscreen.tap(*ada.place(100, 80))
        ada.has_marked(1)
        touch = ada.page.context.new_cdp_session(ada.page)

        def fingers(kind: str, *places: tuple[float, float]) -> None:
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [
                {"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]})

        one, other = ada.place(300, 200), ada.place(400, 300)
        fingers("touchStart", one)
        fingers("touchMove", ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2))
        fingers("touchMove", other)
        fingers("touchEnd")
        ada.has_marked(2)
        fingers("touchStart", one)
        fingers("touchStart", one, other)
        fingers("touchMove", (one[0] - 40, one[1] - 40), (other[0] + 40, other[1] + 40))
        fingers("touchEnd")
        expect(ada.page.locator("#map")).to_be_visible()
        ada.has_marked(2)
        ada.page.get_by_role("button", name="Done").click()
        ada.sees(after=first)
        ada.all_saved()
        point, box = labels(server, first)
        assert point.polygon is not None and box.polygon is None


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_nothing_serious_on_the_label_pages(browser: Browser, server: Server, scheme: str, width: int) -> None:
    how = {"viewport": {"width": width, "height": 740}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with person(browser, server.url, **how) as nobody:
        nobody.page.goto(server.url + "/label")
        expect(nobody.page.get_by_role("heading", name="Nothing to label yet")).to_be_visible()
        assert faults(nobody.page) == []
    draw_set(server)
    with labeller(browser, server, **how) as ada:
        page = ada.page

        def looked_at(name: str) -> None:
            assert (name, faults(page)) == (name, [])
            across = page.evaluate("() => document.documentElement.scrollWidth")
            assert (name, across) == (name, width)  # nothing is wider than the window

        page.goto(server.url + "/label")
        looked_at("sets")
        page.get_by_role("link", name="Review", exact=True).click()
        page.get_by_role("link", name="Label", exact=True).click()
        page.get_by_role("link", name=f"Label {SET}").click()
        ada.sees()
        looked_at("label")
        ada.click(100, 80)
        ada.drag((200, 200), (300, 280))
        ada.has_marked(2)
        ada.key("Tab")
        looked_at("selected")
        ada.key("v")
        expect(page.locator("#candidates-count")).not_to_be_empty()
        ada.key("Tab", "Tab")
        looked_at("candidates")
        for key in "pb":
            ada.key(key)
            looked_at(key)
            ada.key("Escape")
        ada.key("?")
        expect(page.locator("#help")).to_be_visible()
        looked_at("help")
        ada.key("Escape")
        ada.press("Enter")
        ada.all_saved()
        looked_at("next")


def test_what_is_marked_is_said_to_screen_readers_and_everything_is_reached_by_the_tab_key(ada: Labeller) -> None:
    ada.open()
    ada.click(100, 80)
    expect(ada.stage).to_have_attribute("aria-label", re.compile("^Image: .+, 1 object marked$"))
    reached = set()
    for _ in range(50):
        ada.page.keyboard.press("Tab")
        reached.add(ada.page.evaluate("""() => { const at = document.activeElement;
            return [at.dataset.action || at.id || at.tagName, getComputedStyle(at).outlineStyle].join(" "); }"""))
    wanted = "done undo skip closer polygon brush class1 class2 help waiting point-size candidates-on".split()
    assert {f"{name} solid" for name in wanted} <= reached
