"""Small objects out of a bucket: this project's store against boto3 and obstore, 2,000 objects of 100 kB.

Prints a JSON list of two rows; `ours` and `peer` are images a second, medians of interleaved repeats on a SeaweedFS that
this starts: once behind a forwarder that holds back each request for 50 ms, as a store in another room does, once without
it. The peer is boto3's get_object on 16 threads; boto3 on 64 threads and obstore (async, 64 at once) stand in the details.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from _common import Row, interleaved, medians, say, scratch, show

sys.path.insert(0, str(Path(__file__).parent.parent))

from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import ImageRef
from tests.s3_servers import S3Server, seaweedfs

OBJECTS, OBJECT_BYTES = 2000, 100_000
DELAY_S = 0.05
DEMANDED = 3.0
BUCKET = "open"


class _Side(asyncio.Protocol):
    """One side of a forwarded connection; hands what comes to the other, after a delay."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.other: asyncio.Transport | None = None
        self.transport: asyncio.Transport | None = None
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport if isinstance(transport, asyncio.Transport) else None

    def data_received(self, data: bytes) -> None:
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self._pass, data)
        else:
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)
        else:
            self.waiting.append(data)

    def joined(self, other: asyncio.Transport) -> None:
        self.other = other
        for data in self.waiting:
            other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.close()


class _Front(_Side):
    """The client's side, which opens the way to the server."""

    def __init__(self, port: int, delay_s: float) -> None:
        super().__init__(delay_s)
        self.port = port
        self.opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        transport, back = await asyncio.get_running_loop().create_connection(lambda: _Side(0.0), "127.0.0.1", self.port)
        if self.transport is not None:
            back.joined(self.transport)
        self.joined(transport)


def _forward(port: int, delay_s: float, ready: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Front(port, delay_s), "127.0.0.1", 0, backlog=256)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def behind(server: S3Server, delay_s: float) -> Iterator[S3Server]:
    """The server as it is reached through a forwarder, in a process of its own, that holds back each request's bytes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_forward, args=(int(server.url.rsplit(":", 1)[1]), delay_s, theirs), daemon=True)
    process.start()
    try:
        yield S3Server(f"http://127.0.0.1:{ours.recv()}")
    finally:
        process.kill()
        process.join()


def fill(server: S3Server, bodies: Sequence[bytes]) -> list[ImageRef]:
    """Puts the objects; what a listing says of them."""
    client = server.client(max_pool_connections=8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: client.put_object(Bucket=BUCKET, Key=f"small/{pair[0]:05d}.jpg", Body=pair[1]),
                      enumerate(bodies)))
    use(server)
    found = [entry.found for entry in store_of("s3://").list(f"s3://{BUCKET}/small")]
    return [ref for ref in found if isinstance(ref, ImageRef)]


def use(server: S3Server) -> None:
    """Lets the store of this process talk to that server."""
    os.environ.update(server.environment)
    settings.cache_clear()


def all_equal(came: Iterator[bytes], bodies: Sequence[bytes]) -> None:
    """Raises RuntimeError where an object is not as it was put."""
    if not all(data == body for data, body in zip(came, bodies, strict=True)):
        raise RuntimeError("expected the objects as they were put, got other bytes")


def by_boto3(server: S3Server, refs: Sequence[ImageRef], bodies: Sequence[bytes], threads: int) -> Any:
    client = server.client(max_pool_connections=threads)

    def fetch(ref: ImageRef) -> bytes:
        data: bytes = client.get_object(Bucket=BUCKET, Key=ref.uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
        return data

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            all_equal(pool.map(fetch, refs), bodies)
    return run


def by_obstore(server: S3Server, refs: Sequence[ImageRef], bodies: Sequence[bytes], at_once: int) -> Any:
    from obstore.store import S3Store

    store = S3Store(BUCKET, endpoint=server.url, access_key_id=server.key[0], secret_access_key=server.key[1],
                    region="us-east-1", client_options={"allow_http": True})

    async def fetch_all() -> list[bytes]:
        room = asyncio.Semaphore(at_once)

        async def fetch(ref: ImageRef) -> bytes:
            async with room:
                answer = await store.get_async(ref.uri.removeprefix(f"s3://{BUCKET}/"))
                return bytes(await answer.bytes_async())
        return await asyncio.gather(*(fetch(ref) for ref in refs))

    return lambda: all_equal(iter(asyncio.run(fetch_all())), bodies)


def by_us(refs: Sequence[ImageRef], bodies: Sequence[bytes]) -> Any:
    store = store_of("s3://")

    def run() -> None:
        with ThreadPoolExecutor(store.in_flight) as pool:
            all_equal((blob.read_all() for blob in pool.map(store.open, refs)), bodies)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--objects", type=int, default=OBJECTS)
    given = parser.parse_args()
    draw = np.random.default_rng(0)
    bodies = [draw.bytes(OBJECT_BYTES) for _ in range(given.objects)]
    rows = []
    with scratch() as folder, seaweedfs(folder) as server:
        refs = fill(server, bodies)
        for delay_s in (DELAY_S, 0.0):
            with behind(server, delay_s) if delay_s else contextlib.nullcontext(server) as place:
                use(place)
                times = interleaved({
                    "ours": by_us(refs, bodies), "boto3, 16 threads": by_boto3(place, refs, bodies, 16),
                    "boto3, 64 threads": by_boto3(place, refs, bodies, 64),
                    "obstore, 64 at once": by_obstore(place, refs, bodies, 64)}, repeats=given.repeats)
            rates = {name: given.objects / seconds for name, seconds in medians(times).items()}
            say(f"{delay_s * 1000:.0f} ms: " + ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items()))
            peer = rates["boto3, 16 threads"]
            figure = f"{given.objects} objects of {OBJECT_BYTES // 1000} kB, {delay_s * 1000:.0f} ms to the first byte"
            details = {"in_flight": store_of("s3://").in_flight, "repeats": given.repeats,
                       **{name: round(rate, 1) for name, rate in rates.items()}}
            rows.append(Row(figure, rates["ours"], "images/s", peer, "boto3 get_object, 16 threads", rates["ours"] / peer,
                            True, DEMANDED if delay_s else None, details=details))
    show(rows)


if __name__ == "__main__":
    main()
