"""Files on this machine: `file:///absolute/path`, percent-encoded, so that any bytes in a name survive."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.stores import MISSING, PROBE, Listed, Skip, is_no_image
from segsvc.types import ImageRef

_CLAIM = ".segsvc-claim"
_TEMPORARY = ".segsvc-tmp-"


def to_uri(path: bytes) -> str:
    """The URI of an absolute path."""
    return "file://" + quote_from_bytes(os.path.abspath(path))


def to_path(uri: str) -> bytes:
    """The absolute path of a URI, or of a path as a user writes it."""
    if uri.startswith("file://"):
        return unquote_to_bytes(uri.removeprefix("file://"))
    return os.path.abspath(os.fsencode(uri))


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _reference(path: bytes) -> ImageRef:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ImageRef(to_uri(path), MISSING, 0)
    return ImageRef(to_uri(path), _version(status), status.st_size)


def _translated(error: OSError) -> ImageError:
    kinds = {errno.ENOENT: ImageErrorKind.MISSING, errno.ENOTDIR: ImageErrorKind.MISSING,
             errno.ELOOP: ImageErrorKind.MISSING, errno.EACCES: ImageErrorKind.PERMISSION,
             errno.EPERM: ImageErrorKind.PERMISSION, errno.ENAMETOOLONG: ImageErrorKind.MISSING}
    kind = kinds.get(error.errno or 0, ImageErrorKind.IO)
    return ImageError(kind, f"expected a readable file, got: {os.strerror(error.errno or 0)}")


class FileBlob:
    """An opened file, read by ranges without moving a shared position, so that threads may share it."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor: int | None = descriptor
        self._size_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, start: int, stop: int) -> bytes:
        if self._descriptor is None:
            raise ImageError(ImageErrorKind.IO, "expected an open file, got one that was closed")
        start, stop = max(0, start), min(stop, self._size_bytes)
        pieces = []
        try:
            while start < stop:
                piece = os.pread(self._descriptor, min(stop - start, 1 << 30), start)
                if not piece:
                    break
                pieces.append(piece)
                start += len(piece)
        except OSError as error:
            raise _translated(error) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_all(self) -> bytes:
        return self.read(0, self._size_bytes)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


class FileFolder:
    """A folder for the parts of a run; files appear whole, by a temporary name and a link or rename."""

    def __init__(self, path: bytes) -> None:
        self._path = Path(os.fsdecode(path))
        self._claim: int | None = None

    @property
    def uri(self) -> str:
        return to_uri(os.fsencode(self._path))

    @property
    def in_flight(self) -> int:
        return 4

    @property
    def path(self) -> Path:
        return self._path

    def read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def tag(self, name: str) -> str | None:
        try:
            return _version((self._path / name).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, name: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> bool:
        """`if_tag` is looked at before the file is replaced; between the two, the claim keeps others off."""
        target = self._path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=target.parent)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # tells `sweep` that its writer lives
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            if if_absent:
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    return False
                return True
            if if_tag is not None and self.tag(name) != if_tag:
                return False
            Path(temporary).replace(target)
            return True
        finally:
            os.close(descriptor)
            Path(temporary).unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        try:
            found = os.listdir(self._path / prefix)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(f"{prefix}/{name}" for name in found if not name.startswith("."))

    def delete(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def probe(self) -> None:
        made = [folder for folder in (self._path, *self._path.parents) if not folder.exists()]
        try:
            self.put(PROBE, b"")
            self.delete(PROBE)
        finally:
            for folder in made:
                with suppress(OSError):  # another has put something there meanwhile
                    folder.rmdir()

    def is_empty(self) -> bool:
        try:
            return all(name.startswith((_TEMPORARY, _CLAIM)) for name in os.listdir(self._path))
        except FileNotFoundError:
            return True

    def claim(self) -> bool:
        """By a record lock on a file: the kernel gives it back when the process ends, however it ends."""
        if self._claim is None:
            self._path.mkdir(parents=True, exist_ok=True)
            self._claim = os.open(self._path / _CLAIM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self) -> None:
        if self._claim is not None:
            fcntl.lockf(self._claim, fcntl.LOCK_UN)

    def sweep(self) -> None:
        """Removes the temporary files of writers that died."""
        for folder in (self._path, *(self._path / kind for kind in ("plan", "candidates", "images", "timings"))):
            for left in folder.glob(_TEMPORARY + "*"):
                try:
                    with left.open("rb") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        left.unlink(missing_ok=True)
                except OSError:  # its writer lives, or it is gone
                    continue


def _umask() -> int:
    """This process's umask, from the kernel's own account where there is one: asking by setting it races."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


class FileStore:
    """The store of `file://`."""

    scheme = "file"
    in_flight = 1

    def list(self, uri: str, *, after: str | None = None, exclude: str | None = None) -> Iterator[Listed]:
        """A file, or all files below a folder in the order of their relative paths' bytes.

        after: the cursor (the relative path, percent-encoded) of the last entry that was seen.
        exclude: a folder that is passed over: the run's own output.
        """
        path = to_path(uri)
        if not os.path.isdir(path):
            if after is None:
                yield _entry(path, os.path.basename(path))
            return
        root = os.path.realpath(path)
        passed = unquote_to_bytes(after) if after is not None else None
        own = os.path.realpath(to_path(exclude)) if exclude is not None else None
        yield from _walk(path, root=root, after=passed, own=own)

    def find(self, uri: str) -> ImageRef:
        """The version of the file that is there now (`missing` where there is none: opening it then says so)."""
        return _reference(to_path(uri))

    def open(self, ref: ImageRef) -> FileBlob:
        """The file, if it still is the version that was planned. Raises ImageError."""
        if not ref.uri:
            raise ImageError(ImageErrorKind.MISSING, "expected the path or URI of a file, got an empty one")
        try:
            descriptor = os.open(to_path(ref.uri), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _translated(error) from error
        except ValueError as error:  # a NUL in the path
            raise ImageError(ImageErrorKind.MISSING, f"expected the path of a file, got one with {error}") from error
        status = os.fstat(descriptor)
        blob = FileBlob(descriptor, status.st_size)
        if not stat.S_ISREG(status.st_mode):
            blob.close()
            raise ImageError(ImageErrorKind.UNSUPPORTED, "expected a regular file, got a folder, device or pipe")
        if ref.version not in ("", _version(status)):
            blob.close()
            raise ImageError(ImageErrorKind.CHANGED, f"expected version {ref.version} of the file, got "
                             f"{_version(status)}: it was changed after it was listed. Run it again on a new OUT.")
        return blob

    def folder(self, uri: str) -> FileFolder:
        return FileFolder(to_path(uri))


def _walk(folder: bytes, *, root: bytes, after: bytes | None, own: bytes | None) -> Iterator[Listed]:
    pending = _entries(folder, b"")
    if pending is None:
        yield Listed(quote_from_bytes(b"/"), Skip.CLOSED)
        return
    while pending:  # the next entry last; a folder's entries take its place
        key, entry = pending.pop()
        below = key.endswith(b"/")
        if after is not None and (key <= after) and not (below and after.startswith(key)):
            continue
        if entry.name.startswith(b"."):
            yield Listed(quote_from_bytes(key), Skip.HIDDEN)
        elif below and own is not None and os.path.realpath(entry.path) == own:
            yield Listed(quote_from_bytes(key), Skip.OWN_OUTPUT)
        elif below and (within := _entries(entry.path, key)) is None:
            yield Listed(quote_from_bytes(key), Skip.CLOSED)
        elif below and within is not None:
            pending += within
        elif entry.is_symlink() and not _stays_below(entry.path, root):
            yield Listed(quote_from_bytes(key), Skip.LINK)
        else:
            yield _entry(entry.path, key)


def _entries(folder: bytes, relative: bytes) -> list[tuple[bytes, os.DirEntry[bytes]]] | None:
    """What a folder holds, by place in the order of relative paths, the last one first; None where it cannot be read."""
    try:
        with os.scandir(folder) as scanned:
            return sorted(((_key(relative, entry), entry) for entry in scanned), key=lambda pair: pair[0], reverse=True)
    except OSError:
        return None


def _key(relative: bytes, entry: os.DirEntry[bytes]) -> bytes:
    """The entry's place in the order of relative paths: a folder's comes with the `/` that its files' have."""
    return os.path.join(relative, entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"")


def _stays_below(path: bytes, root: bytes) -> bool:
    """Whether a link leads to a file of the folder. A folder is no file, and its files are listed where they are."""
    real = os.path.realpath(path)
    return real.startswith(root.rstrip(b"/") + b"/") and not os.path.isdir(real)


def _entry(path: bytes, key: bytes) -> Listed:
    cursor = quote_from_bytes(key)
    if is_no_image(os.fsdecode(key)):
        return Listed(cursor, Skip.ENDING)
    try:
        status = os.stat(path)
    except OSError:
        return Listed(cursor, ImageRef(to_uri(path), MISSING, 0))
    if not stat.S_ISREG(status.st_mode):
        return Listed(cursor, Skip.SPECIAL)
    return Listed(cursor, ImageRef(to_uri(path), _version(status), status.st_size))


PLUGIN = FileStore()
