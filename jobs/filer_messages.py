"""What SeaweedFS' filer posts about its files (`notification.toml`, `[notification.webhook]`), as objects of its buckets.

A message tells what was at a path before, and what is there now. It bears no time of its own: an object's is that of its
bytes, and a deletion comes right after what it deletes.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from pydantic import BaseModel, Field

from segsvc.errors import ConfigError

_BUCKETS = "/buckets/"
_ETAG = "Seaweed-X-Amz-ETag"


@dataclass(frozen=True, slots=True)
class FilerChange:
    """An object that was put or deleted."""

    bucket: str
    key: str
    etag: str
    size_bytes: int
    gone: bool
    at_ns: int


class _Attributes(BaseModel):
    file_size: int = Field(default=0, ge=0)
    mtime: int = 0
    mtime_ns: int = 0
    md5: str = ""  # base64


class _Chunk(BaseModel):
    modified_ts_ns: int = 0


class _Entry(BaseModel):
    name: str
    is_directory: bool = False
    attributes: _Attributes = _Attributes()
    chunks: list[_Chunk] = []
    extended: dict[str, str] = {}

    @property
    def etag(self) -> str:
        """Raises ConfigError where none can be told."""
        try:
            if _ETAG in self.extended:
                return base64.b64decode(self.extended[_ETAG], validate=True).decode().strip('"')
            if self.attributes.md5:
                return base64.b64decode(self.attributes.md5, validate=True).hex()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"extended.{_ETAG}, attributes.md5: expected base64, got another") from error
        raise ConfigError(f"expected an entry with extended.{_ETAG} or attributes.md5, got none: it was not put by S3. "
                          "`segsvc reconcile` finds it.")

    @property
    def at_ns(self) -> int:
        """When its bytes came: what was put in parts is later than its parts."""
        whole = self.attributes.mtime * 10**9 + self.attributes.mtime_ns
        return max([whole, *(chunk.modified_ts_ns for chunk in self.chunks)])


class _Change(BaseModel):
    old_entry: _Entry | None = None
    new_entry: _Entry | None = None
    new_parent_path: str = ""


class FilerMessage(BaseModel):
    """One message of the filer. key: the path that was changed."""

    event_type: str
    key: str
    message: _Change

    def changes(self) -> list[FilerChange]:
        """The objects that were put or deleted; none where it is about a folder, or a file in no bucket.

        Raises ConfigError where a version of an object cannot be told.
        """
        old, new = self.message.old_entry, self.message.new_entry
        path = f"{self.message.new_parent_path.rstrip('/')}/{new.name}" if new is not None and self.message.new_parent_path \
            else self.key
        found = []
        if old is not None and (new is None or path != self.key) and (place := _place(self.key, old)) is not None:
            found.append(FilerChange(*place, old.etag, 0, gone=True, at_ns=old.at_ns + 1))
        if new is not None and (place := _place(path, new)) is not None:
            found.append(FilerChange(*place, new.etag, new.attributes.file_size, gone=False, at_ns=new.at_ns))
        return found


def _place(path: str, entry: _Entry) -> tuple[str, str] | None:
    """Bucket and key of a file in a bucket; the filer keeps parts and its own notes in hidden folders."""
    bucket, _, key = path.removeprefix(_BUCKETS).partition("/")
    if entry.is_directory or not path.startswith(_BUCKETS) or not key or bucket.startswith(".") or \
            key.startswith(".uploads/"):
        return None
    return bucket, key
