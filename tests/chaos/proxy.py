"""A bad network before an S3 server: resets, delays, bodies cut short, 503, and lies about lengths.

    python -m tests.chaos.proxy --to 127.0.0.1:8333 --seed 1

It says its port on the first line of stdout. It understands as much HTTP as S3's clients speak and passes heads on as they
came, so that signed requests stay valid. Each request draws its harm from the seed, its method and path, and how often
that was asked before: the same requests meet the same harm in whatever order they come.
At `/-chaos` the proxy itself answers: GET says what it did, PUT sets what it does from now on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import socket
import struct
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

CONTROL = "/-chaos"
_MOST_HEAD_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: the connection ends with RST


class Harm(StrEnum):
    """What may happen to a request."""

    REFUSE = "refuse"  # reset; the server never hears of it
    TEAR = "tear"  # a piece of the request's body reaches the server; closed there, reset here
    LOSE = "lose"  # carried out; reset before a byte of the answer
    FAIL = "fail"  # carried out; answered with 500
    SLOW_DOWN = "slow_down"  # not carried out; answered with 503 SlowDown
    BREAK = "break"  # reset in the middle of the answer's body
    CUT = "cut"  # closed in the middle of the answer's body
    UNDERSTATE = "understate"  # Content-Length is half of the body, and half of the body comes
    OVERSTATE = "overstate"  # Content-Length is more than the body; closed after the body
    STALL = "stall"  # Content-Length is more than the body; nothing comes for a long time


_OF_A_BODY = frozenset({Harm.BREAK, Harm.CUT, Harm.UNDERSTATE, Harm.OVERSTATE, Harm.STALL})


@dataclass(slots=True)
class Weather:
    """What the proxy does.

    harms: the share of requests that meet each. only: an expression; requests whose `METHOD /path?query` it does not find
    meet none and are not delayed. first: nor do those that were asked more often than that before.
    hold: an expression; requests that it finds wait until the weather changes, at most `hold_most` of them.
    """

    harms: dict[str, float] = field(default_factory=dict)
    delay_share: float = 0.0
    delay_s: float = 0.0
    stall_s: float = 60.0
    hold: str = ""
    hold_most: int | None = None
    only: str = ""
    first: int | None = None

    def __post_init__(self) -> None:
        unknown = set(self.harms) - set(Harm)
        if unknown or not 0 <= sum(self.harms.values()) <= 1:
            raise ValueError(f"expected shares of {[*Harm]} that sum to at most 1, got {self.harms}")


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer: its first line and headers as they came, and its body."""

    head: bytes
    body: bytes

    @property
    def first(self) -> list[str]:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")

    def header(self, name: str) -> str | None:
        return _header(self.head, name)

    def without(self, *names: str) -> bytes:
        """The head without those headers and without the empty line that ends it."""
        wanted = tuple(name.lower().encode() + b":" for name in names)
        lines = self.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.lower().startswith(wanted))


def _header(head: bytes, name: str) -> str | None:
    found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*([^\r\n]*)", head)
    return found.group(1).decode("latin-1") if found else None


async def _head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def _body(reader: asyncio.StreamReader, head: bytes, *, until_close: bool) -> bytes:
    if "chunked" in (_header(head, "Transfer-Encoding") or "").lower():
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
            continue
        return b"".join(pieces)
    length = _header(head, "Content-Length")
    if length is None:
        return await reader.read() if until_close else b""
    return await reader.readexactly(int(length))


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def _plain(status: str, body: bytes, kind: str = "application/xml") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _error(status: str, code: str, method: str) -> bytes:
    if method == "HEAD":  # is never answered with a body
        return _plain(status, b"")
    return _plain(status, f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>the test says so'
                          '</Message></Error>'.encode())


class _Over(Exception):  # noqa: N818 - no error: the client's connection is done with
    """The client's connection is closed or reset."""


class Proxy:
    """Passes requests on to `host`:`port`, in the weather that was set."""

    def __init__(self, host: str, port: int, seed: int) -> None:
        self._to = host, port
        self._seed = seed
        self._weather = Weather()
        self._asked: Counter[str] = Counter()
        self._did: Counter[str] = Counter()
        self._held: list[str] = []
        self._held_so_far = 0
        self._changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, request after request."""
        try:
            while True:
                head = await _head(reader)
                if (_header(head, "Expect") or "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request = Message(head, await _body(reader, head, until_close=False))
                await self._answer(request, writer)
                await writer.drain()
                if (request.header("Connection") or "").lower() == "close":
                    return
        except (_Over, OSError, asyncio.IncompleteReadError):  # also when the server itself is gone
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request: Message, writer: asyncio.StreamWriter) -> None:
        method, target = request.first[:2]
        if target == CONTROL:
            writer.write(self._control(method, request.body))
            return
        asked = f"{method} {target}"
        self._asked[asked] += 1
        self._did[f"{method} asked"] += 1
        draw = random.Random(f"{self._seed}|{asked}|{self._asked[asked]}")
        await self._hold(asked)
        weather = self._weather
        harm = None
        if re.search(weather.only, asked) and (weather.first is None or self._asked[asked] <= weather.first):
            harm = self._harm(draw)
            if draw.random() < weather.delay_share:
                self._did[f"{method} delay"] += 1
                await asyncio.sleep(draw.uniform(0, weather.delay_s))
        await self._carry_out(request, writer, harm, draw)

    async def _hold(self, asked: str) -> None:
        if not self._weather.hold or not re.search(self._weather.hold, asked):
            return
        if self._weather.hold_most is not None and self._held_so_far >= self._weather.hold_most:
            return
        self._held_so_far += 1
        self._held.append(asked)
        await self._changed.wait()
        self._held.remove(asked)

    def _harm(self, draw: random.Random) -> Harm | None:
        drawn = draw.random()
        for name, share in self._weather.harms.items():
            if drawn < share:
                return Harm(name)
            drawn -= share
        return None

    async def _carry_out(self, request: Message, writer: asyncio.StreamWriter, harm: Harm | None,
                         draw: random.Random) -> None:
        method = request.first[0]
        if harm is Harm.TEAR and not request.body:
            harm = Harm.REFUSE
        if harm is Harm.SLOW_DOWN:
            self._count(method, harm)
            writer.write(_error("503 Slow Down", "SlowDown", method))
            return
        if harm is Harm.REFUSE:
            self._count(method, harm)
            _reset(writer)
            raise _Over
        answer = await self._pass_on(request, tear_at=draw.randrange(len(request.body)) if harm is Harm.TEAR else None)
        if answer is None or harm is Harm.LOSE:
            self._count(method, Harm.LOSE if answer else Harm.TEAR)
            _reset(writer)
            raise _Over
        if harm is Harm.FAIL:
            self._count(method, harm)
            writer.write(_error("500 Internal Server Error", "InternalError", method))
            return
        if harm in _OF_A_BODY and answer.body:
            self._count(method, harm)
            await self._spoil(answer, writer, harm)
            return
        length = answer.without("Transfer-Encoding", "Content-Length")
        if method == "HEAD" or answer.first[1] in ("204", "304"):  # a length there is not that of a body that comes
            writer.write(answer.head)
        else:
            writer.write(length + f"\r\nContent-Length: {len(answer.body)}\r\n\r\n".encode() + answer.body)

    def _count(self, method: str, harm: Harm) -> None:
        self._did[f"{method} {harm.value}"] += 1

    async def _pass_on(self, request: Message, *, tear_at: int | None) -> Message | None:
        """The server's answer; None where the request was torn."""
        reader, writer = await asyncio.open_connection(*self._to, limit=_MOST_HEAD_BYTES)
        try:
            writer.write(request.without("Expect", "Transfer-Encoding") + (
                b"" if request.header("Content-Length") is not None or not request.body
                else f"\r\nContent-Length: {len(request.body)}".encode()) + b"\r\n\r\n")
            writer.write(request.body if tear_at is None else request.body[:tear_at])
            await writer.drain()
            if tear_at is not None:
                return None
            head = await _head(reader)
            while head.startswith((b"HTTP/1.1 100", b"HTTP/1.0 100")):
                head = await _head(reader)
            empty = request.first[0] == "HEAD" or head.split(b" ", 2)[1] in (b"204", b"304")
            return Message(head, b"" if empty else await _body(reader, head, until_close=True))
        finally:
            writer.close()  # no reset, which would take back what the server has not read yet

    async def _spoil(self, answer: Message, writer: asyncio.StreamWriter, harm: Harm) -> None:
        head, body, half = answer.without("Transfer-Encoding", "Content-Length"), answer.body, len(answer.body) // 2
        said = {Harm.UNDERSTATE: half, Harm.OVERSTATE: len(body) + 100, Harm.STALL: len(body) + 100}.get(harm, len(body))
        sent = body if harm in (Harm.OVERSTATE, Harm.STALL) else body[:half]
        writer.write(head + f"\r\nContent-Length: {said}\r\n\r\n".encode() + sent)
        await writer.drain()
        if harm is Harm.UNDERSTATE:
            return
        if harm is Harm.BREAK:
            _reset(writer)
        if harm is Harm.STALL:
            await asyncio.sleep(self._weather.stall_s)
        raise _Over

    def _control(self, method: str, body: bytes) -> bytes:
        if method == "PUT":
            self._weather = Weather(**json.loads(body))
            self._held_so_far = 0
            self._changed.set()
            self._changed = asyncio.Event()
        told: dict[str, Any] = {"did": dict(sorted(self._did.items())), "held": sorted(self._held),
                                "weather": asdict(self._weather)}
        return _plain("200 OK", json.dumps(told).encode(), "application/json")


async def _run(host: str, port: int, seed: int) -> None:
    proxy = Proxy(host, port, seed)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=_MOST_HEAD_BYTES, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A bad network before an S3 server.")
    parser.add_argument("--to", required=True, help="host:port of the server")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    host, _, port = given.to.rpartition(":")
    asyncio.run(_run(host, int(port), given.seed))


if __name__ == "__main__":
    main()
