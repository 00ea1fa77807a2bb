"""The public page as a process, and requests of a visitor."""

from __future__ import annotations

import http.client
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Service


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str


class Page(Service):
    """The page of the registry at an address; what it reads is kept in `directory`."""

    def __init__(self, directory: Path, registry: str, *flags: str) -> None:
        arguments = [f"--registry={registry}", f"--data-dir={directory / 'page'}", *flags]
        super().__init__("leaderboard", arguments, directory / "leaderboard.log")

    def start(self, wait_seconds: float = 60.0) -> Page:
        """Starts the process and waits until it has something to show."""
        self.launch()
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline:
            assert self.process
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                if self.get("/healthz").status == 200:
                    return self
            except OSError:  # the port is not open yet
                time.sleep(0.1)
        raise TimeoutError(self.log.read_text()[-4000:])

    def get(self, path: str, **headers: str) -> Answer:
        """Returns the answer to a GET request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://{self.address}{path}", headers=named)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, answer.headers, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read().decode())

    def calls(self) -> dict[str, float]:
        """Returns how often the page has called each rpc of the registry."""
        prefix = 'cxreval_web_registry_calls_total{rpc="'
        return {
            name.removeprefix(prefix).removesuffix('"}'): value
            for name, value in self.metrics().items()
            if name.startswith(prefix)
        }
