"""A server with the part of Kubernetes' API that runs use; its pods write what a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SECONDS = 30.0


class FakeCluster:
    """Objects that were created, by kind and name, and what was asked for.

    Attributes:
        address: of the server.
        objects: what was created: `jobs` and `networkpolicies`.
        answers: the status, and the body, of the next calls by method and kind, such as
            `("POST", "jobs")`, in place of the usual answer.
        state: of each pod's container until its log has been read.
        ended: of each pod's container then.
        status: further fields of each pod's status.
        log: for each time that a log is read, the pieces of it; `hold` keeps it open.
        asked: all calls.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"jobs": {}, "networkpolicies": {}}
        self.answers: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        self.state: dict[str, Any] = {"running": {}}
        self.ended: dict[str, Any] = {"terminated": {"reason": "Completed", "exitCode": 0}}
        self.status: dict[str, Any] = {}
        self.log: list[list[bytes]] = []
        self.asked: list[str] = []
        self.held = threading.Event()
        self.address = ""

    @contextmanager
    def serving(self) -> Iterator[FakeCluster]:
        """Serves on a free port."""
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                cluster._answer(self)

            do_POST = do_DELETE = do_GET  # noqa: N815 -- names of the library

            def log_message(self, *arguments: object) -> None:
                """Writes nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            self.held.set()
            server.shutdown()
            server.server_close()
            thread.join(SECONDS)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        self.asked.append(f"{request.command} {request.path}")
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        kind = url.path.split("/")[-1]
        if url.path.endswith("/log"):
            self._send_log(request)
            return
        if request.command == "DELETE":
            kind = url.path.split("/")[-2]
        if (request.command, kind) in self.answers:
            status, answer = self.answers.pop((request.command, kind))
        elif request.command == "POST":
            made = json.loads(body)
            name = made["metadata"]["name"]
            status, answer = (409, {}) if name in self.objects[kind] else (201, made)
            self.objects[kind].setdefault(name, made)
        elif request.command == "DELETE":
            removed = self.objects[kind].pop(url.path.split("/")[-1], None)
            status, answer = (200, removed) if removed else (404, {})
        else:
            (selector,) = parse_qs(url.query)["labelSelector"]
            status, answer = 200, {"items": self._pods(selector.removeprefix("job-name="))}
        data = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _pods(self, job: str) -> list[dict[str, Any]]:
        if job not in self.objects["jobs"]:
            return []
        status = {"containerStatuses": [{"state": self.state}]} | self.status
        return [{"metadata": {"name": f"{job}-abcde"}, "status": status}]

    def _send_log(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        for piece in self.log.pop(0) if self.log else []:
            if piece == b"hold":
                request.wfile.flush()
                self.held.wait(SECONDS)
            else:
                request.wfile.write(piece)
        if not self.log:
            self.state = self.ended
        request.close_connection = True
