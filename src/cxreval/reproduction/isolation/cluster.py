"""Calls the API of a Kubernetes cluster: jobs, pods and their logs in one namespace."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cxreval.errors import SandboxUnavailable

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_ADDRESS = "https://kubernetes.default.svc"
_CALL_SECONDS = 30.0
_LOG_SECONDS = 3600.0
_REMOVE_SECONDS = 60.0
_POLL_SECONDS = 0.5
_PIECE_BYTES = 1 << 16
_MOST_BYTES = 16 << 20
_NOT_FOUND, _CONFLICT = 404, 409


class Cluster:
    """The API of a cluster, for one namespace.

    Args:
        address: of the API server, such as `https://kubernetes.default.svc`.
        namespace: of the jobs.
        credentials: a directory with the files `token` and `ca.crt`, such as the service account
            of a pod has; None for a server that takes no token.
    """

    def __init__(
        self, address: str, namespace: str, credentials: Path | None = _SERVICE_ACCOUNT
    ) -> None:
        self._address, self._namespace, self._credentials = address, namespace, credentials
        self._tls = (
            ssl.create_default_context(cafile=credentials / "ca.crt") if credentials else None
        )

    def create(self, version: str, kind: str, body: Mapping[str, Any]) -> None:
        """Creates an object, unless there is one of that name."""
        path = f"/apis/{version}/namespaces/{self._namespace}/{kind}"
        self._call("POST", path, body, allowed=_CONFLICT)

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Returns the pods with labels."""
        query = urllib.parse.urlencode({"labelSelector": selector})
        answer = self._call("GET", f"/api/v1/namespaces/{self._namespace}/pods?{query}")
        return list(answer["items"])

    def read_log(self, pod: str, put: Callable[[bytes], None]) -> None:
        """Passes on what a pod writes until it ends, and at last nothing. A log that breaks off
        is no error."""
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log?follow=true"
        try:
            with self._open("GET", path, None, _LOG_SECONDS) as answer:
                while data := answer.read1(_PIECE_BYTES):
                    put(data)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            put(b"")

    def delete_job(self, name: str) -> None:
        """Ends a job and waits until its pod is gone."""
        path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs/{name}"
        body = {"propagationPolicy": "Foreground", "gracePeriodSeconds": 0}
        self._call("DELETE", path, body, allowed=_NOT_FOUND)
        until = time.monotonic() + _REMOVE_SECONDS
        while self.pods(f"job-name={name}") and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, allowed: int = 0
    ) -> dict[str, Any]:
        """Returns the answer of a call; an empty one for the status that is allowed.

        Raises:
            SandboxUnavailable: the server is not reached, refuses, or answers something else.
        """
        try:
            with self._open(method, path, body, _CALL_SECONDS) as answer:
                return dict(json.loads(answer.read(_MOST_BYTES)))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == allowed:
                    return {}
                problem = f"{error.code} {_message(error.read(_PIECE_BYTES)) or error.reason}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = str(error)
        expected = "the API of Kubernetes, and a service account that may use jobs and pods there"
        message = f"no sandbox: {method} {path}: {problem}; expected {expected}"
        raise SandboxUnavailable(message, expected=expected, found=problem) from None

    def _open(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._credentials:  # the token is replaced from time to time
            headers["Authorization"] = f"Bearer {(self._credentials / 'token').read_text().strip()}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._address + path, data, headers, method=method)  # noqa: S310 -- the operator's address
        answer: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310
            request, timeout=seconds, context=self._tls
        )
        return answer


def of_this_pod(credentials: Path = _SERVICE_ACCOUNT) -> Cluster:
    """Returns the cluster that this process is in a pod of, for the namespace of the pod.

    Raises:
        SandboxUnavailable: this process is in no pod, or has no service account.
    """
    try:
        namespace = (credentials / "namespace").read_text().strip()
        return Cluster(_ADDRESS, namespace, credentials)
    except OSError as error:
        expected = f"a pod with the token of a service account in {credentials}"
        message = f"no sandbox: {error.strerror}; expected {expected}"
        raise SandboxUnavailable(message, expected=expected) from None


def _message(body: bytes) -> str:
    """Returns the text of an error of Kubernetes."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""
