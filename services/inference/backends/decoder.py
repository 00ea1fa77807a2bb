"""A decoder: a process that decodes strangers' images and preprocesses them.

`image_decoder` starts it, in a sandbox where there is one. It answers messages on a socket that it
inherits: the first comes with the shared memory, each further one decodes an image.

    python -m services.inference.backends.decoder SOCKET
"""

from __future__ import annotations

import math
import mmap
import sys

import numpy as np
import numpy.typing as npt

from cxreval.errors import CxrevalError
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from services.inference.backends.messages import answer, enter, receive, refuse

Array = npt.NDArray[np.float32]

TENSOR_BYTES = sum(4 * math.prod(profile.tensor_shape) for profile in PROFILES.values())


def main(fd: int) -> None:
    """Answers the service's messages until it closes its end of the socket."""
    service, (image_fd, tensors_fd) = enter(fd)
    image = mmap.mmap(image_fd, 0, access=mmap.ACCESS_READ)
    tensors = places(mmap.mmap(tensors_fd, 0))
    while message := receive(service):
        try:
            decoded = decode(image[: message["bytes"]])
            for name in message["profiles"]:
                tensors[name][...] = PROFILES[name].apply(decoded)
            answer(service, {})
        except (CxrevalError, MemoryError) as error:
            refuse(service, error)


def places(memory: mmap.mmap) -> dict[str, Array]:
    """Returns arrays (crops, C, H, W) in shared memory of `TENSOR_BYTES`, by profile."""
    arrays, offset = {}, 0
    for profile in PROFILES.values():
        flat = np.frombuffer(memory, np.float32, math.prod(profile.tensor_shape), offset)
        arrays[profile.name] = flat.reshape(profile.tensor_shape)
        offset += flat.nbytes
    return arrays


if __name__ == "__main__":
    main(int(sys.argv[1]))
