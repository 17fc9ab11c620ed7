"""What goes wrong with a request, as `application/problem+json` (RFC 9457); each kind has a type that stays."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from review_ui.pictures import RegionError
from segsvc.errors import ConfigError, ImageError, ImageErrorKind, SegsvcError
from segsvc.ledger.errors import Conflict, Full, Lost, Refused, Stale, Throttled, Unknown

MEDIA_TYPE = "application/problem+json"
_GONE = frozenset({ImageErrorKind.MISSING, ImageErrorKind.CHANGED, ImageErrorKind.PERMISSION})
_MOST_INPUT = 60  # characters of what came that a message repeats


class ProblemType(Enum):
    """The kinds of problems: name, status, title."""

    UNKNOWN_HOST = ("unknown-host", 400, "The name that the server was called by is not one of its own")
    SIGN_IN = ("sign-in", 401, "A session or token is needed")
    NOT_PERMITTED = ("not-permitted", 403, "This is for admins")
    CROSS_SITE = ("cross-site", 403, "Another site may not ask for this")
    NOT_FOUND = ("not-found", 404, "There is nothing at this address")
    UNKNOWN = ("unknown", 404, "The ledger does not hold this")
    IMAGE_GONE = ("image-gone", 404, "The image is gone")
    IMAGE_UNREADABLE = ("image-unreadable", 404, "The image cannot be read")
    NOT_ALLOWED = ("not-allowed", 405, "This address does not know the method")
    CONFLICT = ("conflict", 409, "As it stands now, this cannot be done")
    NO_LENGTH = ("no-length", 411, "The length of the body is to be said")
    STALE = ("stale", 412, "It was decided meanwhile")
    TOO_LARGE = ("too-large", 413, "The body is too large")
    INVALID = ("invalid", 422, "What was sent cannot be used as it is")
    IMAGE_REFUSED = ("image-refused", 422, "The image cannot be worked on")
    NO_IF_MATCH = ("no-if-match", 428, "The tag of what was seen is to be sent along")
    TOO_MANY_ATTEMPTS = ("too-many-attempts", 429, "Too many failed attempts")
    INTERNAL = ("internal", 500, "A fault of the server")
    STORE = ("store-unreachable", 503, "What the server works with cannot be reached")
    BUSY = ("busy", 503, "As much of this is being done as can be at once")
    ENDED = ("ended", 503, "What worked on this was ended; it can be asked for again")
    FULL = ("full", 507, "There is no room to store this")

    @property
    def uri(self) -> str:
        return f"urn:segsvc:problem:{self.value[0]}"

    @property
    def status(self) -> int:
        return self.value[1]

    @property
    def title(self) -> str:
        return self.value[2]


class Problem(SegsvcError):  # noqa: N818 - it reads as what it says
    """A request that is not done. `members`: what the document has beside the fixed ones."""

    def __init__(self, kind: ProblemType, detail: str, *, members: Mapping[str, Any] | None = None,
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.members = dict(members or {})
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The answer that says it."""
        document = {"type": self.kind.uri, "title": self.kind.title, "status": self.kind.status, "detail": str(self),
                    **self.members}
        return JSONResponse(jsonable_encoder(document), self.kind.status, headers=self.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:  # noqa: PLR0911 - a table
    """The problem that an error is to whoever asked."""
    match error:
        case Problem():
            return error
        case Unknown():
            return Problem(ProblemType.UNKNOWN, str(error))
        case Stale():
            return Problem(ProblemType.STALE, str(error), members={"first": error.first, "tag": error.tag})
        case Conflict() | Lost():
            return Problem(ProblemType.CONFLICT, str(error))
        case Refused() | RegionError():
            return Problem(ProblemType.INVALID, str(error))
        case Throttled():
            return Problem(ProblemType.TOO_MANY_ATTEMPTS, str(error), headers={"Retry-After": str(error.retry_after_s)})
        case Full():
            return Problem(ProblemType.FULL, str(error))
        case ImageError():
            return _of_image(error)
        case ConfigError():
            return Problem(ProblemType.STORE, str(error))
        case RequestValidationError():
            return _of_validation(error)
        case HTTPException():
            return _of_status(error)
        case _:
            return Problem(ProblemType.INTERNAL, f"expected no fault, got {type(error).__name__}; the server's log has more")


def _of_image(error: ImageError) -> Problem:
    if error.kind in _GONE:
        return Problem(ProblemType.IMAGE_GONE, str(error))
    return Problem(ProblemType.IMAGE_UNREADABLE, str(error), members={"error_kind": error.kind.value})


def _of_validation(error: RequestValidationError) -> Problem:
    found = [{"field": ".".join(str(step) for step in each["loc"]), "message": _message(each)} for each in error.errors()]
    detail = "; ".join(f"{each['field']}: {each['message']}" for each in found[:5])
    return Problem(ProblemType.INVALID, detail, members={"errors": found})


def _message(found: Mapping[str, Any]) -> str:
    """What was expected and what came, which may be anything: only the beginning of it is repeated."""
    came = found.get("input")
    if isinstance(came, bytes):  # it is read as JSON only where it says that it is
        return "expected JSON, and `Content-Type: application/json` with it"
    if found["type"] == "json_invalid":
        return f"expected JSON, got something else from character {found['loc'][-1]} on: {found['ctx']['error']}"
    shown = "" if came is None or isinstance(came, dict) else f", got {str(came)[:_MOST_INPUT]!r}"
    return f"{found['msg']}{shown}"


def _of_status(error: HTTPException) -> Problem:
    kinds = {404: ProblemType.NOT_FOUND, 405: ProblemType.NOT_ALLOWED}
    kind = kinds.get(error.status_code, ProblemType.INVALID if error.status_code < 500 else ProblemType.INTERNAL)
    return Problem(kind, str(error.detail), headers=error.headers)
