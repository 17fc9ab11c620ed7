"""A way to a queue that sees what is taken and deleted, and gives what was taken and not deleted again after two seconds."""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VISIBLE_AFTER_S = 2  # in place of a minute


@dataclass(slots=True)
class Watched:
    """What has passed. before_deletion: called with the bodies of messages that are to be deleted, before they are."""

    url: str
    before_deletion: Callable[[list[str]], None]
    taken: int = 0
    deleted: int = 0
    _bodies: dict[str, str] = field(default_factory=dict)  # by receipt
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, action: str, body: dict[str, Any]) -> None:
        if action == "ReceiveMessage":
            body["VisibilityTimeout"] = VISIBLE_AFTER_S
        elif action == "DeleteMessageBatch":
            with self._lock:
                bodies = [self._bodies[each["ReceiptHandle"]] for each in body["Entries"]]
                self.deleted += len(bodies)
            self.before_deletion(bodies)

    def answered(self, action: str, answer: dict[str, Any]) -> None:
        if action == "ReceiveMessage":
            with self._lock:
                self._bodies.update((each["ReceiptHandle"], each["Body"]) for each in answer.get("Messages", []))
                self.taken += len(answer.get("Messages", []))


class _Server(ThreadingHTTPServer):
    block_on_close = False  # who was killed has left a question that nobody waits for

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), (OSError, ValueError)):  # who was killed asks by halves, and takes no answer
            super().handle_error(request, client_address)


@contextmanager
def watched(queue: str, before_deletion: Callable[[list[str]], None]) -> Iterator[Watched]:
    """The queue of that URL at another one, behind which all this is seen."""
    origin, _, path = queue.partition("//")[2].partition("/")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            action = self.headers["x-amz-target"].rpartition(".")[2]
            found.asked(action, body)
            names = ("x-amz-target", "content-type", "authorization", "x-amz-date")
            request = urllib.request.Request(f"http://{origin}/", json.dumps(body).encode(),
                                             {name: self.headers[name] for name in names})
            with urllib.request.urlopen(request, timeout=60) as answer:
                data = answer.read()
            found.answered(action, json.loads(data or b"{}"))
            self.send_response(200)
            self.send_header("content-type", "application/x-amz-json-1.0")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    with _Server(("127.0.0.1", 0), Handler) as server:
        found = Watched(f"http://127.0.0.1:{server.server_address[1]}/{path}", before_deletion)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()
