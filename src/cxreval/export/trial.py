"""Runs an ONNX file on a few images; a program for a process of its own.

`python -m cxreval.export.trial INPUT OUTPUT BATCH FILE` reads arrays (n, ...) as NumPy writes them
from standard input, and writes the output (n, ...) of each to standard output. A batch of 0 is
free. On failure it writes one line to standard error and exits with `REFUSED`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from cxreval.child_limits import limit_this_process
from cxreval.onnx_file.messages import plain

REFUSED = 3
"""Exit status if the runtime refuses the file or fails on an image."""

MAX_CPU_SECONDS = 60
"""Limit of the processor time of a trial."""

_MEMORY_BYTES = 16 << 30
_OUTPUT_BYTES = 64 << 20


def main() -> None:
    """Runs the model that the command line names on the arrays of standard input."""
    taken, returned, batch, file = sys.argv[1:]
    limit_this_process(
        memory_bytes=_MEMORY_BYTES, cpu_seconds=MAX_CPU_SECONDS, file_bytes=_OUTPUT_BYTES
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    stdin = os.fdopen(sys.stdin.fileno(), "rb")
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # only the arrays go to standard output
    problem = "the runtime refuses the model"
    try:
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        problem = "the runtime failed on an image"
        size = os.fstat(stdin.fileno()).st_size
        while stdin.tell() < size:
            images = np.load(stdin, allow_pickle=False)
            rows = [_run(session, taken, returned, int(batch) or 1, image) for image in images]
            np.save(stdout, np.concatenate(rows), allow_pickle=False)
        stdout.flush()
    except Exception as error:  # noqa: BLE001 - onnxruntime's classes have no usable base
        hidden = str(Path(file).parent) + os.sep
        sys.stderr.write(f"\n{problem}: {plain(str(error).replace(hidden, ''))}\n")
        sys.exit(REFUSED)


def _run(
    session: ort.InferenceSession, taken: str, returned: str, batch: int, image: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Returns the output (1, ...) of one image, which fills a batch of the size that is fixed."""
    (output,) = session.run([returned], {taken: np.stack([image] * batch)})
    if len(output) != batch:
        raise ValueError(f"the output has {len(output)} rows for {batch} images")
    return np.asarray(output)[:1]


if __name__ == "__main__":
    main()
