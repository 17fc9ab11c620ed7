"""The page's own files as they are sent."""

from __future__ import annotations

from review_ui.static_files import STATIC, as_sent
from tests.review_ui.conftest import Served


def test_comments_and_indentation_of_scripts_stay_here() -> None:
    source = ('/** Says\n * it does. */\nexport function f(a) {\n\t// why\n\n\tconst url = "http://x // y"; // at its end\n'
              '\tif (a === "b, c") a = { d: "e : f" };\n\treturn a\n\t\t.map((each) => each);\n}\n')
    assert as_sent(source) == ('export function f(a){const url = "http://x // y";if(a==="b, c")a={d:"e : f"};'
                               'return a.map((each)=>each);}\n')


def test_a_script_that_is_still_the_same_is_not_sent_again(shared: Served) -> None:
    first = shared.client.get("/static/review.js")
    assert first.status_code == 200
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "no-cache"
    assert first.text == as_sent((STATIC / "review.js").read_text("utf-8"))
    again = shared.client.get("/static/review.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_other_files_are_sent_as_they_are_and_nothing_beyond_them(shared: Served) -> None:
    assert shared.client.get("/static/page.css").content == (STATIC / "page.css").read_bytes()
    for path in ("/static/none.js", "/static/../app.py", "/static/%2e%2e/app.py", "/static/"):
        assert shared.client.get(path).status_code == 404


def test_scripts_have_no_texts_of_several_lines() -> None:
    wrong = [f"{path.name}: {line}" for path in sorted(STATIC.glob("*.js")) for line in path.read_text("utf-8").splitlines()
             if line.count("`") % 2]
    assert wrong == []
