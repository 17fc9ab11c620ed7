"""One file per input format: bytes in, a `Source` out.

A reader's PLUGIN has `name`, `endings` (lower case, with dot: what such files are usually called),
`sniff(head: bytes) -> bool` on the first 64 bytes or fewer, `open(blob, limits) -> Source` and
`example() -> bytes`, a small file of the format. Readers raise nothing but `ImageError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from segsvc import plugins
from segsvc.errors import ImageError, ImageErrorKind
from segsvc.types import Blob, Source

HEAD_BYTES = 64
NOT_PLUGINS = frozenset({"decoded", "jpeg_codec", "limits", "orientation", "png_filters", "ranges", "tiff_boxes",
                         "tiff_directory", "tiff_page", "tiff_pixels", "tiff_scale", "tiff_segments", "tiff_tree"})


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much one image may take: `decode_bytes` is the most that may be decoded at once."""

    decode_bytes: int = 512 * 1024 * 1024


class Reader(Protocol):
    """What a reader's PLUGIN offers."""

    @property
    def name(self) -> str: ...
    @property
    def endings(self) -> tuple[str, ...]: ...
    def sniff(self, head: bytes) -> bool: ...
    def open(self, blob: Blob, limits: ReadLimits) -> Source: ...
    def example(self) -> bytes: ...


def open_source(blob: Blob, limits: ReadLimits) -> Source:
    """The image in `blob`, opened by the reader that knows its first bytes, whatever it is called.

    Raises ImageError: EMPTY without bytes, UNSUPPORTED where no reader knows it, and whatever the reader raises.
    """
    head = blob.read(0, HEAD_BYTES)
    if not head:
        raise ImageError(ImageErrorKind.EMPTY, "expected an image, got a file of 0 bytes")
    for name in plugins.names(plugins.PluginKind.READER):
        reader: Reader = plugins.load(plugins.PluginKind.READER, name)
        if reader.sniff(head):
            return reader.open(blob, limits)
    known = ", ".join(plugins.names(plugins.PluginKind.READER))
    raise ImageError(ImageErrorKind.UNSUPPORTED,
                     f"expected an image of a known format ({known}), got a file that starts with {head[:8]!r}")


@contextmanager
def opened(blob: Blob, limits: ReadLimits) -> Iterator[Source]:
    """The image in `blob`, as long as the block lasts; then both are closed. Raises as `open_source`."""
    try:
        source = open_source(blob, limits)
        try:
            yield source
        finally:
            source.close()
    finally:
        blob.close()
