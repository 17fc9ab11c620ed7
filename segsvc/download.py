"""One file over HTTPS into a file here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib import request
from urllib.error import HTTPError, URLError

from segsvc.errors import ConfigError

Progress = Callable[[int, int | None], None]  # bytes that came, and of how many, None where the server does not say

TIMEOUT_S = 60.0  # without a byte of the answer
_CHUNK_BYTES = 2**20
# of urllib's handlers all that HTTPS needs and no others: neither an address nor a redirect leads to http:, ftp: or file:
_HANDLERS = (request.ProxyHandler, request.HTTPSHandler, request.HTTPRedirectHandler, request.HTTPDefaultErrorHandler,
             request.HTTPErrorProcessor, request.UnknownHandler)


def download(url: str, to: Path, *, most_bytes: int, progress: Progress, timeout_s: float = TIMEOUT_S) -> None:
    """Writes what is at the address into a new file.

    Raises ConfigError where the network or the server fails, for an answer that is larger than allowed or breaks off (some
    of it may be in the file then), and OSError where the file cannot be written.
    """
    with to.open("xb") as file:
        for chunk in _chunks(url, most_bytes, progress, timeout_s):
            file.write(chunk)


def _chunks(url: str, most_bytes: int, progress: Progress, timeout_s: float) -> Iterator[bytes]:
    opener = request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    asked = request.Request(url, headers={"User-Agent": "segsvc"})  # some servers refuse urllib's own
    try:
        with opener.open(asked, timeout=timeout_s) as answer:
            size_bytes: int | None = answer.length
            if size_bytes is not None and size_bytes > most_bytes:
                raise ConfigError(f"expected at most {most_bytes} bytes from {url}, it has {size_bytes}")
            came_bytes = 0
            while chunk := answer.read(_CHUNK_BYTES):
                came_bytes += len(chunk)
                if came_bytes > most_bytes:
                    raise ConfigError(f"expected at most {most_bytes} bytes from {url}, got more")
                progress(came_bytes, size_bytes)
                yield chunk
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the answer
        raise ConfigError(f"expected {url}, got: {_said(error)}") from error
    if size_bytes is not None and came_bytes < size_bytes:
        raise ConfigError(f"expected {size_bytes} bytes from {url}, the connection ended after {came_bytes}")


def _said(error: BaseException) -> str:
    """What went wrong, without urllib's wrapping and the system's numbers."""
    if isinstance(error, URLError) and isinstance(error.reason, OSError):
        error = error.reason
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
