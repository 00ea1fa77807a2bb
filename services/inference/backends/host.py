"""A model host: the process that opens one stranger's model and runs it.

`model_host` starts it, in a sandbox where there is one. It answers messages on a socket that it
inherits: the first opens the model, each further one runs a batch. Images come and rows go
through shared memory.

    python -m services.inference.backends.host SOCKET FILE
"""

from __future__ import annotations

import math
import mmap
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cxreval import model_interface
from cxreval.bundle import Ensemble, Section
from cxreval.errors import CxrevalError
from cxreval.imaging.preprocess import profile_of
from cxreval.onnx_file.reading import profile_name
from cxreval.onnx_file.signature import Signature, check, inspect
from cxreval.preprocessing import PRESETS
from services.inference.backends.ensemble import EnsembleSession, open_bundle
from services.inference.backends.messages import (
    answer,
    enter,
    receive,
    receive_with_descriptors,
    refuse,
)
from services.inference.backends.session import Array, Execution, Images, OnnxSession


def main(fd: int, file: Path) -> None:
    """Answers the service's messages until it closes its end of the socket."""
    service, _ = enter(fd)
    try:
        session, signature = _open(service, file)
    except (CxrevalError, MemoryError) as error:
        refuse(service, error)
        return
    _, (images_fd, rows_fd) = receive_with_descriptors(service)
    images, rows = mmap.mmap(images_fd, 0, access=mmap.ACCESS_READ), mmap.mmap(rows_fd, 0)
    answer(service, {})
    while message := receive(service):
        try:
            pieces = [
                np.frombuffer(images, signature.dtype, math.prod(shape), offset).reshape(shape)
                for offset, shape in message["pieces"]
            ]
            output = run(session, pieces, alone=message["alone"])
            np.frombuffer(rows, np.float32, output.size).reshape(output.shape)[...] = output
            answer(service, {"shape": output.shape})
        except (CxrevalError, MemoryError) as error:
            refuse(service, error)


def run(session: OnnxSession | EnsembleSession, pieces: Sequence[Images], *, alone: bool) -> Array:
    """Runs pieces (n, C, H, W) as one batch, or each image alone; returns (sum of n, columns)."""
    if alone:
        return np.concatenate(
            [session.run(piece[n : n + 1]) for piece in pieces for n in range(len(piece))]
        )
    return session.run(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))


def _open(service: socket.socket, file: Path) -> tuple[OnnxSession | EnsembleSession, Signature]:
    request = receive(service)
    execution = Execution(request["provider"], fp16=request["fp16"])
    stated = request["interface"]
    interface, profile = model_interface.read(stated, "interface") if stated else None, ""
    if request["named_profile"]:
        profile = profile_name(file)
        interface = model_interface.preset(profile) if profile in PRESETS else None
    shape = profile_of(interface.preprocessing).shape if interface else None
    columns = request["columns"]
    session: OnnxSession | EnsembleSession
    if request["files"]:
        session, signature = open_bundle(
            {name: Section(file, *place) for name, place in request["files"].items()},
            Ensemble(request["ensemble"]) if request["ensemble"] else None,
            partial(check, interface=interface, image_shape=shape, columns=columns),
            threads=request["threads"],
            execution=execution,
        )
    else:
        signature = inspect(file, interface, shape, columns)
        session = OnnxSession(file, signature, threads=request["threads"], execution=execution)
    answer(
        service,
        {
            "input_name": signature.input_name,
            "image_shape": signature.image_shape,
            "batch": signature.batch,
            "output_name": signature.output_name,
            "dtype": signature.dtype.str,
            "provider": session.provider,
            "profile": profile,
        },
    )
    return session, signature


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
