"""HTTP over kept connections: every framing of a body, what breaks off, connections that the host closed, proxies, TLS."""

from __future__ import annotations

import contextlib
import datetime
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segsvc.stores.s3.http import BrokenExchangeError, Connections, Host, Proxy

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[int]]]:
    """A port where `serve` gets each connection, in turn; and how many there were."""
    listener = socket.create_server(("127.0.0.1", 0))
    count = [0]

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                count[0] += 1
                with contextlib.suppress(OSError), (
                        connection if tls is None else tls.wrap_socket(connection, server_side=True)) as opened:
                    serve(opened)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], count
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def request_of(connection: socket.socket) -> bytes:
    """The head of the next request; empty at the end of the connection."""
    came = b""
    while not came.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return b""
        came += piece
    return came


def saying(*answers: bytes) -> Serve:
    """Answers the requests of a connection in turn, and then closes it."""
    def serve(connection: socket.socket) -> None:
        for answer in answers:
            if not request_of(connection):
                return
            connection.sendall(answer)
    return serve


def host(port: int, *, name: str = "127.0.0.1", tls: ssl.SSLContext | None = None, proxy: Proxy | None = None,
         read_timeout_s: float = 20.0) -> Connections:
    return Connections(Host(name, port, tls, proxy, 20.0, read_timeout_s), most_kept=4)


def get(connections: Connections, *, method: str = "GET", target: str = "/x", body: bytes = b"",
        limit_bytes: int = 1000) -> tuple[int, dict[str, str], bytes]:
    return connections.exchange(method, target, {"host": "store"}, body, limit_bytes=limit_bytes)


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nlate: field\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
    b"HTTP/1.0 200 OK\r\n\r\nhello",
], ids=["length", "chunks", "after a 100", "until the end", "of old"])
def test_a_body_is_read_whole_however_it_is_framed(answer: bytes) -> None:
    with listening(saying(answer)) as (port, _):
        assert get(host(port))[::2] == (200, b"hello")


def test_answers_without_a_body_leave_the_connection_in_use() -> None:
    answers = (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n",
               b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with listening(saying(*answers)) as (port, count):
        connections = host(port)
        assert get(connections, method="HEAD") == (200, {"content-length": "5", "etag": '"a"'}, b"")
        assert [get(connections)[0] for _ in range(3)] == [204, 304, 200]
        assert count == [1]
        connections.close()


@pytest.mark.parametrize(("answer", "said"), [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "broke off after 5 of 9"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", "broke off"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", "no HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n", "-4 bytes"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "no HTTP"),
    (b"HTTP/1.1 200 OK\r\nConten", "closed"),
    (b"", "closed"),
    (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
    (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20000, "no HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "a body of 1001 bytes where at most 1000"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001, "at most 1000"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", "at most 1000"),
])
def test_what_is_no_whole_answer_is_said_so(answer: bytes, said: str) -> None:
    with listening(saying(answer)) as (port, _), pytest.raises(BrokenExchangeError, match=said) as caught:
        get(host(port))
    assert caught.value.reached


def test_a_connection_that_the_host_closed_meanwhile_is_not_used_again() -> None:
    with listening(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as (port, count):
        connections = host(port)
        for used in (1, 2, 3):
            assert get(connections)[2] == b"ok"
            assert count == [used]
            (kept,) = connections._kept
            select.select([kept], [], [], 20)  # until the end of the connection has arrived


def test_more_than_was_asked_for_ends_the_connection() -> None:
    with listening(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK")) as (port, count):
        connections = host(port)
        assert [get(connections)[2] for _ in range(2)] == [b"ok", b"ok"]
        assert count == [2]


def test_a_host_that_says_nothing_is_given_up_after_the_timeout() -> None:
    gone = threading.Event()

    def silent(connection: socket.socket) -> None:
        request_of(connection)
        gone.wait(30)

    with listening(silent) as (port, _):
        with pytest.raises(BrokenExchangeError, match="no answer in time"):
            get(host(port, read_timeout_s=0.05))
        gone.set()


def test_a_host_that_is_not_there_was_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(BrokenExchangeError, match="refused") as caught:
        get(host(port))
    assert not caught.value.reached


def test_an_unknown_name_is_said_to_be_one() -> None:
    with pytest.raises(BrokenExchangeError, match="name is unknown") as caught:
        get(host(1, name="no-such-host.invalid"))
    assert not caught.value.reached


def test_a_refusal_is_heard_although_the_host_hung_up_before_the_body_was_sent() -> None:
    def refuse(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    with listening(refuse) as (port, _):
        assert get(host(port), method="PUT", body=b"x" * 3_000_000)[::2] == (403, b"no")


def test_a_header_cannot_bring_another_one() -> None:
    with listening(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as (port, _), pytest.raises(
            BrokenExchangeError, match="line break"):
        host(port).exchange("GET", "/", {"host": "store", "if-match": '"a"\r\nx: y'}, b"", limit_bytes=1)


def test_a_proxy_gets_the_whole_url_and_what_lets_us_in() -> None:
    heard = []

    def proxy(connection: socket.socket) -> None:
        heard.append(request_of(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with listening(proxy) as (port, _):
        through = host(80, name="store", proxy=Proxy.to("127.0.0.1", port, "me", "word"))
        assert get(through, target="/b/../x%20y")[2] == b"ok"
    assert heard[0].startswith(b"GET http://store/b/../x%20y HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6d29yZA==\r\n" in heard[0]


# -- TLS -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own authority for `store` and its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("store"), x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256()))
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path


@pytest.fixture
def served(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def test_a_host_is_believed_by_its_certificate_alone(certificate: Path, served: ssl.SSLContext) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with listening(saying(answer, answer), served) as (port, count):
        known = host(port, name="localhost", tls=ssl.create_default_context(cafile=certificate))
        assert [get(known)[2] for _ in range(2)] == [b"ok", b"ok"]
        assert count == [1]
        known.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            get(host(port, name="localhost", tls=ssl.create_default_context()))
        with pytest.raises(ssl.SSLCertVerificationError):
            get(host(port, name="127.0.0.1", tls=ssl.create_default_context(cafile=certificate)))


def test_a_host_that_says_nothing_is_given_up_over_tls_too(certificate: Path, served: ssl.SSLContext) -> None:
    gone = threading.Event()

    def silent(connection: socket.socket) -> None:
        request_of(connection)
        gone.wait(30)

    with listening(silent, served) as (port, _):
        with pytest.raises(BrokenExchangeError, match="no answer in time"):
            get(host(port, name="localhost", tls=ssl.create_default_context(cafile=certificate), read_timeout_s=0.05))
        gone.set()


def test_tls_goes_through_a_proxy_to_the_host_itself(certificate: Path, served: ssl.SSLContext) -> None:
    heard = []

    def proxy(connection: socket.socket) -> None:
        heard.append(request_of(connection))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        inner = served.wrap_socket(connection, server_side=True)
        heard.append(request_of(inner))
        inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        inner.close()

    with listening(proxy) as (port, _):
        through = host(443, name="store", tls=ssl.create_default_context(cafile=certificate),
                       proxy=Proxy.to("127.0.0.1", port, "me", None))
        assert get(through)[2] == b"ok"
    assert heard[0].startswith(b"CONNECT store:443 HTTP/1")
    assert b"Basic bWU6" in heard[0]
    assert heard[1].startswith(b"GET /x HTTP/1.1\r\n")
    assert b"Proxy" not in heard[1]


def test_a_proxy_that_lets_nobody_in_is_said_to_be_one() -> None:
    with listening(saying(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")) as (port, _):
        through = host(443, name="store", tls=ssl.create_default_context(), proxy=Proxy.to("127.0.0.1", port, None, None))
        with pytest.raises(BrokenExchangeError, match="407") as caught:
            get(through)
    assert not caught.value.reached
