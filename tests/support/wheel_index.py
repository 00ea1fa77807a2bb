"""Tiny wheels, and an index that serves them as PyPI does (PEP 503)."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import canonicalize_name


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str] | None = None,
    requires: tuple[str, ...] = (),
) -> Path:
    """Writes a wheel of pure Python; its module has the name of the package."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {item}\n" for item in requires)
    content = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    } | dict(files or {})
    wheel = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return wheel


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@dataclass
class Index:
    """A directory of files, and the paths that were asked for."""

    files: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    status: int = 200

    def answer(self, path: str) -> bytes | None:
        self.asked.append(path)
        if path.startswith("/files/"):
            return (self.files / unquote(path.rpartition("/")[2])).read_bytes()
        project = path.strip("/").rpartition("/")[2]
        links = [
            f'<a href="/files/{file.name}#sha256={sha256(file)}">{file.name}</a>'
            for file in sorted(self.files.iterdir())
            if canonicalize_name(file.name.split("-")[0]) == project
        ]
        return "\n".join(links).encode() if links else None


@contextmanager
def serving(files: Path) -> Iterator[Index]:
    """Serves the files of a directory as a simple index on loopback."""
    index = Index(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = index.answer(self.path)
            status = index.status if index.status != 200 else 200 if body is not None else 404
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
