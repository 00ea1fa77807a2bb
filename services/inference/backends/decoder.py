"""A decoder: a process that decodes strangers' images and preprocesses them.

`image_decoder` starts it, in a sandbox where there is one. It answers messages on a socket that it
inherits: the first comes with the shared memory, each further one decodes an image.

    python -m services.inference.backends.decoder SOCKET
"""

from __future__ import annotations

import mmap
import sys
from functools import lru_cache

import numpy as np

from cxreval import model_interface
from cxreval.errors import CxrevalError, ImageTooLarge
from cxreval.imaging.decode import decode
from cxreval.imaging.image import Image
from cxreval.imaging.preprocess import Profile, Tensor, profile_of
from cxreval.model_interface import MAX_TENSOR_BYTES
from services.inference.backends.messages import answer, enter, receive, refuse


def main(fd: int) -> None:
    """Answers the service's messages until it closes its end of the socket."""
    service, (image_fd, tensor_fd) = enter(fd)
    image = mmap.mmap(image_fd, 0, access=mmap.ACCESS_READ)
    memory = np.frombuffer(mmap.mmap(tensor_fd, 0), np.uint8)
    decoded: Image = np.empty(0, np.uint8)
    while message := receive(service):
        try:
            if message["bytes"] is not None:  # else the image is that of the message before
                decoded = decode(image[: message["bytes"]])
            tensor = tensor_of(decoded, _profile(message["interface"]))
            memory[: tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)[...] = tensor
            answer(service, {"shape": tensor.shape})
        except (CxrevalError, MemoryError) as error:
            refuse(service, error)


def tensor_of(image: Image, profile: Profile) -> Tensor:
    """Returns what a profile makes of an image, (crops, *shape).

    Raises:
        ImageTooLarge: it has more than `MAX_TENSOR_BYTES`.
    """
    tensor = profile.apply(image)
    if tensor.nbytes > MAX_TENSOR_BYTES:
        expected = f"at most {MAX_TENSOR_BYTES >> 20} MiB"
        raise ImageTooLarge(
            f"{profile.name} makes {tensor.nbytes >> 20} MiB of the image; expected {expected}: "
            "declare a resize, fewer channels or a smaller dtype",
            field="image",
            expected=expected,
        )
    return tensor


@lru_cache
def _profile(interface: str) -> Profile:
    return profile_of(model_interface.read(interface, "interface").preprocessing)


if __name__ == "__main__":
    main(int(sys.argv[1]))
