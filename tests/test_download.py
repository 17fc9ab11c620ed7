"""One file over HTTPS: whole, no larger than allowed, and from nowhere else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from segsvc.download import download
from segsvc.errors import ConfigError
from tests.https_server import Reply, Server, serve

BODY = bytes(range(256)) * 12_000  # of several chunks


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose certificate is trusted."""
    monkeypatch.setenv("no_proxy", "*")
    with serve(tmp_path) as started:
        monkeypatch.setenv("SSL_CERT_FILE", str(started.certificate))
        started.replies["/weights.bin"] = Reply(BODY)
        yield started


def fetched(url: str, to: Path, *, most_bytes: int = len(BODY), timeout_s: float = 60.0) -> list[tuple[int, int | None]]:
    """Downloads, and gives what was said of the progress."""
    said: list[tuple[int, int | None]] = []
    download(url, to, most_bytes=most_bytes, progress=lambda *progress: said.append(progress), timeout_s=timeout_s)
    return said


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_comes_whole_and_its_progress_is_told(server: Server, tmp_path: Path, says_length: bool) -> None:
    server.replies["/weights.bin"] = Reply(BODY, says_length=says_length)
    said = fetched(f"{server.url}/weights.bin", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert said[-1] == (len(BODY), len(BODY) if says_length else None)
    assert [came for came, _ in said] == sorted(came for came, _ in said)


def test_a_redirect_is_followed_to_https_alone(server: Server, tmp_path: Path) -> None:
    server.replies["/old"] = Reply(status=302, headers={"Location": "/weights.bin"})
    fetched(f"{server.url}/old", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    with serve(tmp_path, tls=False) as plain:
        plain.replies["/weights.bin"] = Reply(BODY)
        server.replies["/old"] = Reply(status=302, headers={"Location": f"{plain.url}/weights.bin"})
        with pytest.raises(ConfigError, match="unknown url type: http"):
            fetched(f"{server.url}/old", tmp_path / "other")
        with pytest.raises(ConfigError, match="unknown url type: http"):
            fetched(f"{plain.url}/weights.bin", tmp_path / "third")
        assert plain.asked == []


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_anything_else_is_refused(server: Server, tmp_path: Path, target: str) -> None:
    server.replies["/old"] = Reply(status=302, headers={"Location": target})
    with pytest.raises(ConfigError, match=f"expected {server.url}/old, got: "):
        fetched(f"{server.url}/old", tmp_path / "file")


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_that_is_larger_than_allowed_is_refused(server: Server, tmp_path: Path, says_length: bool) -> None:
    server.replies["/weights.bin"] = Reply(BODY, says_length=says_length)
    with pytest.raises(ConfigError, match=f"expected at most {len(BODY) - 1} bytes from {server.url}/weights.bin"):
        fetched(f"{server.url}/weights.bin", tmp_path / "file", most_bytes=len(BODY) - 1)


def test_an_answer_that_breaks_off_is_no_file(server: Server, tmp_path: Path) -> None:
    server.replies["/weights.bin"] = Reply(BODY, cut=1000)
    with pytest.raises(ConfigError, match=f"expected {len(BODY)} bytes from .*, the connection ended after 1000"):
        fetched(f"{server.url}/weights.bin", tmp_path / "file")


def test_what_the_server_or_the_network_says_is_in_the_message(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match="HTTP Error 404: Not Found"):
        fetched(f"{server.url}/none", tmp_path / "one")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="got: Connection refused"):
            fetched(f"https://127.0.0.1:{closed.getsockname()[1]}/x", tmp_path / "two")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ConfigError, match="certificate verify failed"):
        fetched(f"{server.url}/weights.bin", tmp_path / "three")


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConfigError, match="timed out"):
        fetched(f"https://127.0.0.1:{silent.getsockname()[1]}/x", tmp_path / "file", timeout_s=0.2)


def test_a_file_that_is_there_is_not_written_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        fetched(f"{server.url}/weights.bin", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mine"
