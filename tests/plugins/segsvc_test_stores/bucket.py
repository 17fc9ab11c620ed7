"""A store in memory that lists as a bucket does, and keeps account of what is asked of it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.stores import MISSING, Listed, PartFolder, Skip, is_no_image
from segsvc.types import ImageRef


class MemoryBlob:
    def __init__(self, store: BucketStore, data: bytes) -> None:
        self._store, self._data = store, data

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    def read(self, start: int, stop: int) -> bytes:
        if start >= self._store.fails_from:
            raise ImageError(ImageErrorKind.IO, "expected an answer, the connection was reset again and again")
        self._store.reads.append((start, min(stop, len(self._data))))
        return self._data[start:stop]

    def read_all(self) -> bytes:
        return self.read(0, len(self._data))

    def close(self) -> None:
        self._store.closed += 1


class BucketStore:
    scheme = "bucket"
    in_flight = 8

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}  # by URI
        self.reads: list[tuple[int, int]] = []
        self.found: list[str] = []
        self.by_folders = False  # whether keys are listed folder by folder, as some stores do, not by their bytes
        self.fails_from = 1 << 60  # the byte from which reading fails
        self.closed = 0
        self.meeting: threading.Barrier | None = None  # where calls of `find` for images wait for each other
        self._counting = threading.Lock()
        self.asking = self.most_asking = 0

    def put(self, uri: str, data: bytes) -> str:
        """Its version."""
        self.objects[uri] = data
        return self._now(uri).version

    def list(self, uri: str, *, after: str | None = None, exclude: str | None = None) -> Iterator[Listed]:
        root = "/".join(uri.split("/")[:3]) + "/"
        prefix = uri.removeprefix(root)
        keys = sorted(each.removeprefix(root) for each in self.objects if each.startswith(root))
        place = (lambda key: key.split("/")) if self.by_folders else str
        below = prefix.rstrip("/") + "/" if prefix else ""
        if prefix in keys and not prefix.endswith("/"):
            keys, below = [prefix], ""
        elif any(key.startswith(below) for key in keys):
            keys = [key for key in keys if key.startswith(below)]
        else:
            keys, below = [key for key in keys if key.startswith(prefix)], ""
        for key in sorted(keys, key=place):
            own = exclude is not None and (root + key).startswith(exclude.rstrip("/") + "/")
            if not own and (after is None or place(key) > place(after)):
                yield Listed(key, self._entry(root, key, below))

    def _entry(self, root: str, key: str, below: str) -> ImageRef | Skip:
        if key.endswith("/"):
            return Skip.SPECIAL
        if any(step.startswith(".") for step in key.removeprefix(below).split("/")):
            return Skip.HIDDEN
        return Skip.ENDING if is_no_image(key) else self._now(root + key)

    def _now(self, uri: str) -> ImageRef:
        data = self.objects.get(uri)
        return ImageRef(uri, MISSING, 0) if data is None else ImageRef(
            uri, hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data))

    def find(self, uri: str) -> ImageRef:
        with self._counting:
            self.found.append(uri)
            self.asking += 1
            self.most_asking = max(self.asking, self.most_asking)
        if self.meeting is not None and not is_no_image(uri):
            self.meeting.wait(30)
        with self._counting:
            self.asking -= 1
        return self._now(uri)

    def open(self, ref: ImageRef) -> MemoryBlob:
        now = self._now(ref.uri)
        if now.version == MISSING:
            raise ImageError(ImageErrorKind.MISSING, "expected a file, there is none")
        if ref.version not in ("", now.version):
            raise ImageError(ImageErrorKind.CHANGED, f"expected version {ref.version}, got {now.version}")
        return MemoryBlob(self, self.objects[ref.uri])

    def folder(self, uri: str) -> PartFolder:
        raise NotImplementedError("a bucket to read from")


PLUGIN = BucketStore()
