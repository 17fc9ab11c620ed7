"""HTTP/1.1 over kept connections, as much of it as S3 needs, read whole.

http.client connects, speaks to proxies and TLS; requests are written and answers read here, which takes a third of the
processor time that http.client and urllib3 take for the same small object, mostly for parsing headers as if they were mail.
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

_READ_BYTES = 256 * 1024
_HEAD_BYTES = 64 * 1024  # the longest head of an answer, and the longest line of a chunked one
_ERROR_BYTES = 1024 * 1024  # the longest body of an answer that is an error


class BrokenExchangeError(Exception):
    """No whole answer came. reached: the host took the connection."""

    def __init__(self, reason: str, *, reached: bool) -> None:
        super().__init__(reason)
        self.reached = reached


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and the header that lets us in."""

    host: str
    port: int
    headers: Mapping[str, str]

    @classmethod
    def to(cls, host: str, port: int, user: str | None, password: str | None) -> Proxy:
        """The proxy at that address, as that user where there is one."""
        if user is None:
            return cls(host, port, {})
        word = base64.b64encode(f"{user}:{password or ''}".encode()).decode("ascii")
        return cls(host, port, {"Proxy-Authorization": f"Basic {word}"})


@dataclass(frozen=True, slots=True)
class Host:
    """Where requests go. tls: None for plain HTTP."""

    name: str
    port: int
    tls: ssl.SSLContext | None
    proxy: Proxy | None
    connect_timeout_s: float
    read_timeout_s: float


@dataclass(slots=True)
class _Incoming:
    """What has come on a connection and is not yet used."""

    socket: socket.socket
    data: bytearray = field(default_factory=bytearray)

    def more(self) -> bool:
        """Waits for more; False at the end of the connection."""
        came = self.socket.recv(_READ_BYTES)
        self.data += came
        return bool(came)

    def until(self, mark: bytes, most: int) -> bytes:
        """What comes before `mark`, which is used up too."""
        looked = 0
        while (end := self.data.find(mark, looked)) < 0:
            looked = max(0, len(self.data) - len(mark) + 1)
            if len(self.data) > most:
                raise BrokenExchangeError("an answer that is no HTTP", reached=True)
            if not self.more():
                raise BrokenExchangeError("the connection was closed", reached=True)
        found = bytes(self.data[:end])
        del self.data[: end + len(mark)]
        return found

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        if len(self.data) >= count:
            found = bytes(self.data[:count])
            del self.data[:count]
            return found
        whole = bytearray(count)
        filled = len(self.data)
        whole[:filled] = self.data
        self.data.clear()
        view = memoryview(whole)
        flags = 0 if isinstance(self.socket, ssl.SSLSocket) else socket.MSG_WAITALL  # TLS knows none
        while filled < count:
            came = self.socket.recv_into(view[filled:], 0, flags)
            if not came:
                raise BrokenExchangeError(f"an answer that broke off after {filled} of {count} bytes", reached=True)
            filled += came
        return bytes(whole)


Reply = tuple[int, dict[str, str], bytes]  # status, headers by lower-case name, body


class Connections:
    """Connections to one host, kept for the next request; for any number of threads."""

    def __init__(self, host: Host, *, most_kept: int) -> None:
        self._host = host
        self._kept: deque[socket.socket] = deque(maxlen=most_kept)

    def exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, limit_bytes: int) -> Reply:
        """Status, headers by their lower-case names, and the body.

        limit_bytes: a longer body is not read. Raises BrokenExchangeError, ssl.SSLCertVerificationError.
        """
        connection = self._connected()
        keep = False
        try:
            self._send(connection, method, target, headers, body)
            incoming = _Incoming(connection)
            reply, keep = _read(incoming, method, limit_bytes)
            keep = keep and not incoming.data
            return reply
        except OSError as error:
            raise BrokenExchangeError(reason_of(error), reached=True) from error
        except ValueError as error:
            raise BrokenExchangeError("an answer that is no HTTP", reached=True) from error
        finally:
            if keep and len(self._kept) < (self._kept.maxlen or 0):
                self._kept.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Closes what is kept."""
        while self._kept:
            self._kept.pop().close()

    def __del__(self) -> None:
        self.close()

    def _send(self, connection: socket.socket, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        if self._host.proxy is not None and self._host.tls is None:
            target = f"http://{headers['host']}{target}"
            headers = {**headers, **self._host.proxy.headers}
        if body or method == "PUT":
            headers = {**headers, "content-length": str(len(body))}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1:
            raise BrokenExchangeError("a header with a line break in it", reached=True)
        try:
            connection.sendall(head.encode("latin-1"))
            view = memoryview(body)
            for start in range(0, len(body), _READ_BYTES):  # in pieces: the timeout holds for each
                connection.sendall(view[start : start + _READ_BYTES])
        except (BrokenPipeError, ConnectionResetError):
            if not _has_come(connection):  # it may have said why before it hung up
                raise

    def _connected(self) -> socket.socket:
        while self._kept:
            try:
                connection = self._kept.pop()
            except IndexError:  # another thread took it
                break
            if not _has_come(connection):
                return connection
            connection.close()  # the host has hung up
        return self._connect()

    def _connect(self) -> socket.socket:
        host = self._host
        near = (host.proxy.host, host.proxy.port) if host.proxy is not None else (host.name, host.port)
        way = (http.client.HTTPConnection(*near, timeout=host.connect_timeout_s) if host.tls is None else
               http.client.HTTPSConnection(*near, timeout=host.connect_timeout_s, context=host.tls))
        if host.proxy is not None and host.tls is not None:
            way.set_tunnel(host.name, host.port, headers=dict(host.proxy.headers))
        try:
            way.connect()
        except ssl.SSLCertVerificationError:
            way.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            way.close()
            raise BrokenExchangeError(reason_of(error, connecting=True), reached=False) from error
        connection: socket.socket = way.sock
        if host.tls is not None:
            connection.settimeout(host.read_timeout_s)
            return connection
        limit = struct.pack("@ll", int(host.read_timeout_s), int(host.read_timeout_s % 1 * 1e6))
        connection.settimeout(None)  # the kernel keeps the time: Python would look before each read whether it may
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        return connection


def _has_come(connection: socket.socket) -> bool:
    """Whether there is something to read just now, the end of the connection counting as such."""
    looked = select.poll()
    looked.register(connection, select.POLLIN)
    return bool(looked.poll(0))


def _read(incoming: _Incoming, method: str, limit_bytes: int) -> tuple[Reply, bool]:
    """The answer, and whether the connection can be used again. Raises ValueError where it is no HTTP."""
    status = 100
    while status < 200:  # what comes before the answer proper
        first, *lines = incoming.until(b"\r\n\r\n", _HEAD_BYTES).decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(first)
        status = int(rest[:3])
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    keep = version != "HTTP/1.0" and headers.get("connection", "").lower() != "close"
    if method == "HEAD" or status in (204, 304):
        return (status, headers, b""), keep
    most = limit_bytes if status < 300 else _ERROR_BYTES
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return (status, headers, _chunks(incoming, most)), keep
    if "content-length" in headers:
        length = _within(int(headers["content-length"]), most)
        return (status, headers, incoming.exactly(length)), keep
    while _within(len(incoming.data), most) >= 0 and incoming.more():
        pass
    return (status, headers, bytes(incoming.data)), False


def _chunks(incoming: _Incoming, most: int) -> bytes:
    pieces, total = [], 0
    while size := int(incoming.until(b"\r\n", _HEAD_BYTES).split(b";", 1)[0], 16):
        total = _within(total + size, most)
        pieces.append(incoming.exactly(size))
        incoming.until(b"\r\n", 2)
    while incoming.until(b"\r\n", _HEAD_BYTES):  # fields that follow the body
        pass
    return b"".join(pieces)


def _within(length: int, most: int) -> int:
    if not 0 <= length <= most:
        raise BrokenExchangeError(f"a body of {length} bytes where at most {most} were asked for", reached=True)
    return length


def reason_of(error: Exception, *, connecting: bool = False) -> str:
    """A few words for what a connection ended with, without addresses."""
    if isinstance(error, socket.gaierror):
        return "the host's name is unknown"
    if isinstance(error, (TimeoutError, BlockingIOError)):  # the second where the kernel keeps the time
        return "no connection in time" if connecting else "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) if str(error).startswith("Tunnel") else f"the connection failed ({type(error).__name__})"
