"""The page's own files. Scripts are sent without comments and indentation, which are for whoever reads them here."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"
_WHOLE = re.compile(r"^\s*(/\*\*(?:(?!\*/).)*\*/|//[^\n]*)\n", re.MULTILINE | re.DOTALL)
_AT_THE_END = re.compile(r"[ \t]+// [^\"`'\n]*$", re.MULTILINE)
_BLANK = re.compile(r"^\s+", re.MULTILINE)
_TEXT = re.compile(r'("[^"]*")')
_MAY_BE_TEXT = frozenset("'`/\\")  # of a line in which a string may begin or end otherwise, or an expression for searching
_SPACED = re.compile(r" ?([=<>,:?{}()&|]+) ?")
_GOES_ON = re.compile(r"(?<=[;,{([])\n|\n(?=[})\].])")


def as_sent(source: str) -> str:
    """A script without comments, indentation, and spaces and line ends that a script does not need.

    Comments are those that stand alone in their lines, or at a line's end without a quote in them, so that no string is
    taken for one. Templates of several lines would lose their indentation: there are none.
    """
    for pattern in (_WHOLE, _AT_THE_END, _BLANK):
        source = pattern.sub("", source)
    return _GOES_ON.sub("", "\n".join(_tight(line) for line in source.split("\n")))


def _tight(line: str) -> str:
    if _MAY_BE_TEXT & set(line) or line.count('"') % 2:
        return line
    return "".join(part if part.startswith('"') else _SPACED.sub(r"\1", part) for part in _TEXT.split(line))


class OwnFiles(StaticFiles):
    """The files below `static`; browsers keep them, and ask each time whether they are still the same."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        text = _scripts().get(path)
        if text is None:
            answer = await super().get_response(path, scope)
        else:
            tag = hashlib.sha256(text.encode()).hexdigest()[:32]
            answer = Response(text, media_type="text/javascript", headers={"ETag": f'"{tag}"'})
            if self.is_not_modified(answer.headers, Headers(scope=scope)):
                answer = NotModifiedResponse(answer.headers)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


@cache
def _scripts() -> dict[str, str]:
    """The scripts as they are sent, by name."""
    return {path.name: as_sent(path.read_text("utf-8")) for path in STATIC.glob("*.js")}
