"""Opens the models of a submission with several files, and runs them as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from cxreval.bundle import Ensemble, Section
from cxreval.errors import ModelOutputMismatch
from cxreval.onnx_file.bundled import in_file, inspect_bundle
from cxreval.onnx_file.signature import Signature
from services.inference.backends.session import Array, Execution, Images, OnnxSession


class EnsembleSession:
    """The sessions of several models by the name of their file; an answer is the mean of theirs."""

    def __init__(self, sessions: Mapping[str, OnnxSession]) -> None:
        self._sessions = sessions
        self.provider = next(iter(sessions.values())).provider

    def run(self, images: Images) -> Array:
        """Returns the mean of the models' answers (n, columns), summed in float64.

        Raises:
            ModelOutputMismatch: two models return different numbers of columns.
            CxrevalError: as `OnnxSession.run` raises; the message names the model's file.
        """
        answers: list[Array] = []
        for name, session in self._sessions.items():
            with in_file(name):
                answers.append(session.run(images))
                _check_columns(answers)
        return np.asarray(np.mean(answers, axis=0, dtype=np.float64), np.float32)


def _check_columns(answers: Sequence[Array]) -> None:
    """Raises `ModelOutputMismatch` unless the last answer is as wide as the first."""
    found, expected = (answer.shape[1] for answer in (answers[-1], answers[0]))
    if found != expected:
        raise ModelOutputMismatch(
            f"model returns {found} columns; expected {expected}, as the first of the ensemble",
            field="model.outputs",
            expected=f"{expected} columns",
            found=f"{found} columns",
        )


def open_bundle(
    files: Mapping[str, Section],
    ensemble: Ensemble | None,
    check: Callable[[onnx.ModelProto], Signature],
    *,
    threads: int,
    execution: Execution,
) -> tuple[OnnxSession | EnsembleSession, Signature]:
    """Returns a session of the bundle's model or models, and the signature of the first.

    Raises:
        SubmissionFault: as `inspect_bundle` and `OnnxSession` raise.
    """
    directory = next(iter(files.values())).path.parent
    sessions: dict[str, OnnxSession] = {}
    signatures: list[Signature] = []
    for model in inspect_bundle(files, ensemble, check, embed=execution.fp16):
        with in_file(model.name):
            sessions[model.name] = OnnxSession(
                model.content,
                model.signature,
                threads=threads,
                execution=execution,
                weights=directory,
            )
        signatures.append(model.signature)
    if ensemble:
        return EnsembleSession(sessions), signatures[0]
    (session,) = sessions.values()
    return session, signatures[0]
