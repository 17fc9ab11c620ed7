"""A real HTTPS server on this machine, with a certificate of its own, for what fetches files."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Reply:
    """What a server answers for a path. length: what it says the body has, None for nothing said; cut: bytes really sent."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    says_length: bool = True
    cut: int | None = None


@dataclass
class Server:
    """Where it is, what it answers by path, and what it was asked for: method and path."""

    url: str
    certificate: Path
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def serve(folder: Path, *, tls: bool = True) -> Iterator[Server]:
    """Serves until the end of the block; its certificate is written into the folder."""
    found = Server("", folder / "certificate.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = found.replies.get(self.path, Reply(status=404))
            found.asked.append((self.command, self.path))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.says_length:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(reply.body[: reply.cut])

        do_HEAD = do_GET  # noqa: N815 (the name that the library wants)

        def log_message(self, *said: object) -> None:
            return

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *about: object) -> None:
            return  # a client that does not trust it, or leaves in the middle

    server = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        key = folder / "key.pem"
        _write_certificate(found.certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(found.certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _write_certificate(certificate: Path, key: Path) -> None:
    """A certificate for 127.0.0.1 that is signed by itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256()))
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()))
