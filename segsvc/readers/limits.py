"""What readers share at their border: the limit on decoded bytes, and foreign exceptions turned into `ImageError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.readers import ReadLimits
from segsvc.types import Blob

TILE_OR_RAISE = "Save it as a tiled TIFF, which is read in parts, or raise the limit on decoded bytes."


def corrupt(message: str) -> ImageError:
    """The error for bytes that are not what their format promises."""
    return ImageError(ImageErrorKind.CORRUPT, message)


def unsupported(message: str) -> ImageError:
    """The error for a sound file of a kind that is not read here."""
    return ImageError(ImageErrorKind.UNSUPPORTED, message)


def hold_to_limit(need_bytes: int, limits: ReadLimits, *, what: str, advice: str = TILE_OR_RAISE) -> None:
    """Raises ImageError(TOO_LARGE) where decoding `what` at once would take more than `limits.decode_bytes`.

    `need_bytes` is a Python integer computed from a header, before anything is decoded.
    """
    if need_bytes > limits.decode_bytes:
        raise ImageError(ImageErrorKind.TOO_LARGE,
                         f"{what} needs {_mebibytes(need_bytes)} decoded at once, "
                         f"the limit is {_mebibytes(limits.decode_bytes)}. {advice}")


def read_whole(blob: Blob, limits: ReadLimits, *, format_name: str) -> bytes:
    """All bytes of a file that has to be decoded as a whole; ImageError(TOO_LARGE) if they alone exceed the limit."""
    hold_to_limit(blob.size_bytes, limits, what=f"a {format_name} file of {blob.size_bytes} bytes")
    return blob.read_all()


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turns whatever a foreign decoder raises into `ImageError`.

    Decoders raise anything on hostile bytes (struct.error, ValueError, OverflowError, types of their own), so this
    catches `Exception` as a whole; put nothing inside but the foreign call.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(ImageErrorKind.TOO_LARGE,
                         f"{what} needs more memory than there is. {TILE_OR_RAISE}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise corrupt(f"{what} cannot be decoded, the file is truncated or damaged: {reason}") from error


def _mebibytes(size_bytes: int) -> str:
    mebibytes = size_bytes / 2**20
    return f"{mebibytes:,.1f} MiB" if mebibytes < 100 else f"{mebibytes:,.0f} MiB"
