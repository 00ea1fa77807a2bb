"""Images are decoded in processes of their own: what ends one costs at most its image.

The processes, limits and signals are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydicom import uid
from threadpoolctl import threadpool_limits

import services
from cxreval import sandbox
from cxreval.errors import (
    CxrevalError,
    ImageTooLarge,
    ImageUnreadable,
    SandboxUnavailable,
    ServiceUnavailable,
)
from cxreval.imaging.cache import ImageCache
from cxreval.imaging.decode import MAX_IMAGE_BYTES, decode
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import PRESETS, Layout, Preprocessing, Resize, ResizeTo, TensorType
from services.inference.backends import child, image_decoder, shared_memory
from services.inference.backends.decoder import tensor_of
from services.inference.backends.image_decoder import ImageDecoder
from services.inference.backends.shared_memory import SharedImage
from services.inference.preprocessing import Preprocessor
from tests.support import hostile_decoder
from tests.support.inference import png
from tests.support.processes import REPOSITORY, descendants, is_running
from tests.support.waiting import wait_for
from tests.unit.test_dicom import GRAY12, dicom

Tensors = dict[Preprocessing, np.ndarray]
XRV = PRESETS["xrv-224"]
CHANNELS_LAST = Preprocessing(
    resize=Resize(ResizeTo.EXACT, (64, 48)), layout=Layout.NHWC, dtype=TensorType.FLOAT16
)
BYTES = Preprocessing(
    channels=1,
    value_range=(0.0, 255.0),
    resize=Resize(ResizeTo.EXACT, (64, 48)),
    dtype=TensorType.UINT8,
)
SECONDS = 60.0
"""Limit of every wait."""

RNG = np.random.default_rng(16)
GRAY = RNG.integers(0, 256, (301, 257), np.uint8)
RGBA = RNG.integers(0, 65536, (240, 256, 4), np.uint16)
IMAGES = {
    "PNG": png(320, 280),
    "PNG, 16-bit RGB and alpha": bytes(imagecodecs.png_encode(RGBA)),
    "PNG, 1500x1400": bytes(imagecodecs.png_encode(np.resize(GRAY, (1500, 1400)))),
    "JPEG": bytes(imagecodecs.jpeg8_encode(GRAY)),
    "JPEG, color": bytes(imagecodecs.jpeg8_encode((RGBA[:, :, :3] >> 8).astype(np.uint8))),
    "DICOM": dicom(GRAY12, stored=12),
    "DICOM, JPEG-LS": dicom(
        GRAY12, stored=12, syntax=uid.JPEGLSLossless, code=bytes(imagecodecs.jpegls_encode(GRAY12))
    ),
    "DICOM, JPEG 2000": dicom(
        GRAY12, stored=12, syntax=uid.JPEG2000Lossless,
        code=bytes(imagecodecs.jpeg2k_encode(GRAY12, level=0, codecformat="J2K", bitspersample=12)),
    ),
}  # fmt: skip
GOOD = IMAGES["PNG"]


def tensors_of(*images: bytes, profiles: Sequence[Preprocessing] = (XRV,)) -> Tensors:
    """Returns what the library makes of images in this process."""
    decoded = [decode(image) for image in images]
    return {
        steps: np.concatenate([tensor_of(image, profile_of(steps)) for image in decoded])
        for steps in profiles
    }


EXPECTED = tensors_of(GOOD)[XRV]


@contextlib.contextmanager
def made(threads: int = 1, cache: ImageCache | None = None) -> Iterator[Preprocessor]:
    """Yields a preprocessor; afterwards none of its decoders is left."""
    preprocessor = Preprocessor(threads, cache, CollectorRegistry())
    try:
        yield preprocessor
    finally:
        preprocessor.close()
        wait_for(lambda: not decoders())


def decoders() -> list[int]:
    """Returns the processes that decode images, each the innermost of its sandbox."""
    commands = descendants(os.getpid()).items()
    return [pid for pid, command in commands if "decoder" in command and not descendants(pid)]


async def apply(
    preprocessor: Preprocessor, *images: bytes, profiles: Sequence[Preprocessing] = (XRV,)
) -> Tensors:
    tensors = {
        steps: np.full((len(images) * profile.crops, *map(int, profile.shape)), 7, profile.dtype)
        for steps in profiles
        for profile in [profile_of(steps)]
    }
    await asyncio.wait_for(preprocessor.apply(images, tensors), SECONDS)
    return tensors


def applied(preprocessor: Preprocessor, *images: bytes) -> np.ndarray:
    return asyncio.run(apply(preprocessor, *images))[XRV]


def error_of(preprocessor: Preprocessor, *images: bytes) -> CxrevalError:
    with pytest.raises(CxrevalError) as raised:
        applied(preprocessor, *images)
    return raised.value


@pytest.fixture
def commanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes decoders obey `hostile_decoder.COMMANDS`."""
    packages = [Path(services.__file__).parent, REPOSITORY / "tests"]
    monkeypatch.setattr(child, "_PACKAGES", packages)
    monkeypatch.setattr(ImageDecoder, "module", hostile_decoder.__name__)


# --- the same tensors -----------------------------------------------------------------------------


def test_a_decoder_makes_the_same_tensors_as_the_library_to_the_last_bit(tmp_path: Path) -> None:
    profiles, files = [*PRESETS.values(), CHANNELS_LAST, BYTES], list(IMAGES.values())
    profiles.remove(PRESETS["raw"])
    with threadpool_limits(1):  # as in a decoder; with more threads, BLAS may add in another order
        expected = tensors_of(*files, profiles=profiles)
    cache = ImageCache(tmp_path, 1 << 30)
    for used in (None, cache, cache):  # the last finds all
        with made(4, used) as preprocessor:
            answer = asyncio.run(apply(preprocessor, *files, profiles=profiles))
            for profile in profiles:
                np.testing.assert_array_equal(answer[profile], expected[profile])
    cache.close()


def test_many_calls_at_once_get_the_tensors_of_their_own_images() -> None:
    files = [png(64 + 8 * index, 96, seed=index) for index in range(64)]
    expected = tensors_of(*files)[XRV]

    async def all_at_once(preprocessor: Preprocessor) -> list[Tensors]:
        alone = (apply(preprocessor, file) for file in files)
        return await asyncio.gather(apply(preprocessor, *files), *alone)

    with made(4) as preprocessor:
        together, *alone = asyncio.run(all_at_once(preprocessor))
    np.testing.assert_array_equal(together[XRV], expected)
    np.testing.assert_array_equal(np.concatenate([one[XRV] for one in alone]), expected)


# --- images that end their decoder ----------------------------------------------------------------

NOT_A_MESSAGE = (ImageUnreadable, "answered wrongly while decoding the image")
OUTCOMES: dict[bytes, tuple[type[CxrevalError], str]] = {
    b"SIGSEGV": (ImageUnreadable, "ended while decoding the image: SIGSEGV"),
    b"SIGFPE": (ImageUnreadable, "ended while decoding the image: SIGFPE"),
    b"abort": (ImageUnreadable, "ended while decoding the image: SIGABRT"),
    b"exit": (ImageUnreadable, "ended while decoding the image: exit status 7"),
    b"exception": (ImageUnreadable, "ended while decoding the image: exit status 1"),
    b"memory": (ImageTooLarge, "no memory while decoding the image; expected at most 2048 MiB"),
    b"bad_alloc": (ImageTooLarge, "no memory while decoding the image; expected at most 2048 MiB"),
    b"endless": (ImageUnreadable, "decoding the image took more than 2 s"),
    b"no JSON": NOT_A_MESSAGE,
    b"no object": NOT_A_MESSAGE,
    b"deep": NOT_A_MESSAGE,
    b"no text": NOT_A_MESSAGE,
    b"no metadata": NOT_A_MESSAGE,
    b"another reason": NOT_A_MESSAGE,
    b"unknown reason": NOT_A_MESSAGE,
    b"no image": (ImageUnreadable, "neither PNG, JPEG nor DICOM"),
}


@pytest.mark.usefixtures("commanded")
def test_each_end_of_a_decoder_is_an_error_of_its_image_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {*OUTCOMES} == {*hostile_decoder.COMMANDS, b"no image"}
    monkeypatch.setattr(image_decoder, "DECODE_SECONDS", 2.0)

    async def all_at_once(preprocessor: Preprocessor) -> list[Any]:
        hostile = (apply(preprocessor, GOOD, image, GOOD) for image in OUTCOMES)
        good = (apply(preprocessor, GOOD) for _ in range(20))
        return await asyncio.gather(*hostile, *good, return_exceptions=True)

    with made(3) as preprocessor:
        ended = asyncio.run(all_at_once(preprocessor))
        np.testing.assert_array_equal(applied(preprocessor, GOOD), EXPECTED)
    errors, answers = ended[: len(OUTCOMES)], ended[len(OUTCOMES) :]
    wrong = {
        image: error
        for (image, (kind, text)), error in zip(OUTCOMES.items(), errors, strict=True)
        if type(error) is not kind
        or not error.message.startswith("image 1 of the request: ")
        or text not in error.message
        or error.metadata["field"] != "inputs[0].contents[1]"
    }
    assert wrong == {}
    for answer in answers:
        np.testing.assert_array_equal(answer[XRV], EXPECTED)


STEPS = {
    "good": GOOD, "bad": b"no image", "truncated": GOOD[:-40], "crash": b"SIGSEGV",
    "kill": b"", "memory": b"memory", "answer": b"no object", "huge": bytes(MAX_IMAGE_BYTES + 1),
}  # fmt: skip


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=6))
@pytest.mark.usefixtures("commanded")
def test_after_any_images_and_ends_a_good_image_is_decoded(steps: list[str]) -> None:
    with made() as preprocessor:
        for step in steps:
            if step == "kill":
                for pid in decoders():
                    os.kill(pid, signal.SIGKILL)
            elif step == "good":
                np.testing.assert_array_equal(applied(preprocessor, GOOD), EXPECTED)
            else:
                error = error_of(preprocessor, STEPS[step])
                large = step in ("memory", "huge")
                assert type(error) is (ImageTooLarge if large else ImageUnreadable)
        np.testing.assert_array_equal(applied(preprocessor, GOOD), EXPECTED)


def test_an_image_that_needs_too_much_memory_is_too_large_and_its_decoder_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_decoder, "MEMORY_BYTES", 96 << 20)
    pixels = np.zeros((8000, 8000), np.uint8)
    large = {
        "PNG": bytes(imagecodecs.png_encode(pixels, level=9)),
        "JPEG": bytes(imagecodecs.jpeg8_encode(pixels)),
        "DICOM": dicom(pixels[:6000]),
    }
    with made() as preprocessor:
        for image in (IMAGES["PNG"], IMAGES["JPEG"], IMAGES["DICOM"]):  # it imports their codecs
            applied(preprocessor, image)
        (decoder,) = decoders()
        for name, image in large.items():
            error = error_of(preprocessor, image)
            assert type(error) is ImageTooLarge, name
            assert "expected at most 96 MiB for decoding and preprocessing" in error.message
            np.testing.assert_array_equal(applied(preprocessor, GOOD), EXPECTED)
        assert decoders() == [decoder]


def test_the_largest_accepted_image_fits_into_the_memory_of_a_decoder() -> None:
    rows = np.arange(8000, dtype=np.uint16)[:, np.newaxis, np.newaxis]
    image = imagecodecs.png_encode(np.broadcast_to(rows, (8000, 8000, 4)).copy(), level=1)
    profile = PRESETS["imagenet-224"]  # it takes most memory
    with made() as preprocessor:
        answer = asyncio.run(apply(preprocessor, bytes(image), profiles=[profile]))
    assert np.isfinite(answer[profile]).all()


# --- decoders that are ended from outside ---------------------------------------------------------


def test_a_decoder_that_is_killed_while_idle_is_started_again_without_an_error() -> None:
    with made() as preprocessor:
        applied(preprocessor, GOOD)
        (first,) = decoders()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: not is_running(first))
        np.testing.assert_array_equal(applied(preprocessor, GOOD), EXPECTED)
        assert decoders() != [first]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_an_image_whose_decoder_is_ended_from_outside_is_decoded_in_another(
    number: signal.Signals,
) -> None:
    with made() as preprocessor, ThreadPoolExecutor(1) as pool:
        applied(preprocessor, GOOD)
        (first,) = decoders()
        os.kill(first, signal.SIGSTOP)
        call = pool.submit(applied, preprocessor, GOOD)
        time.sleep(0.1)
        assert not call.done()
        os.kill(first, number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(first, signal.SIGCONT)
        np.testing.assert_array_equal(call.result(timeout=SECONDS), EXPECTED)


def test_a_decoder_that_stops_answering_is_ended_at_the_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with made() as preprocessor:
        applied(preprocessor, GOOD)
        (first,) = decoders()
        monkeypatch.setattr(image_decoder, "DECODE_SECONDS", 0.2)
        os.kill(first, signal.SIGSTOP)
        error = error_of(preprocessor, GOOD)
        monkeypatch.undo()
        assert (type(error), error.metadata["expected"]) == (ImageUnreadable, "at most 0.2 s")
        wait_for(lambda: not is_running(first))
        np.testing.assert_array_equal(applied(preprocessor, GOOD), EXPECTED)


# --- calls that end early -------------------------------------------------------------------------


def test_images_of_a_cancelled_call_that_no_decoder_has_are_skipped() -> None:
    async def cancelled(preprocessor: Preprocessor) -> None:
        call = asyncio.create_task(apply(preprocessor, *[GOOD] * 1000))
        await asyncio.sleep(0.05)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        np.testing.assert_array_equal((await apply(preprocessor, GOOD))[XRV], EXPECTED)

    metrics = CollectorRegistry()
    preprocessor = Preprocessor(1, None, metrics)
    asyncio.run(cancelled(preprocessor))
    preprocessor.close()
    count = metrics.get_sample_value("cxreval_inference_preprocess_seconds_count")
    assert count is not None
    assert count < 1000


def test_stop_ends_decoders_that_hang_and_their_calls_get_a_named_error() -> None:
    with made(2) as preprocessor, ThreadPoolExecutor(2) as pool:
        applied(preprocessor, GOOD, GOOD)
        for pid in decoders():
            os.kill(pid, signal.SIGSTOP)
        calls = [pool.submit(error_of, preprocessor, *[GOOD] * 20) for _ in range(2)]
        time.sleep(0.1)
        assert not any(call.done() for call in calls)
        preprocessor.stop()
        errors = [call.result(timeout=10) for call in calls]
        assert {type(error) for error in errors} == {ServiceUnavailable}
        assert type(error_of(preprocessor, GOOD)) is ServiceUnavailable
        assert decoders() == []


# --- decoders that do not start -------------------------------------------------------------------


def refuse(*_: object, **__: object) -> None:
    raise BlockingIOError(11, "Resource temporarily unavailable")


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (ImageDecoder, "module", "services.inference.backends.no_such_module"),
        (subprocess, "Popen", refuse),
        (os, "pipe", refuse),
        (shared_memory, "mapped", refuse),
        (image_decoder, "MEMORY_BYTES", 10**30),
    ],
)
def test_an_image_for_which_no_decoder_starts_is_refused_as_unavailable_and_the_next_works(
    owner: object, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made() as preprocessor:
        applied(preprocessor, GOOD)
        os.kill(decoders()[0], signal.SIGKILL)
        monkeypatch.setattr(owner, name, value)
        for _ in range(2):
            error = error_of(preprocessor, GOOD)
            assert type(error) is ServiceUnavailable
            assert "a decoder of images did not start: " in error.message
        monkeypatch.undo()
        np.testing.assert_array_equal(applied(preprocessor, GOOD), EXPECTED)


@pytest.mark.parametrize("sandboxed", [True, False], ids=["sandbox", "no sandbox"])
def test_a_decoder_does_not_inherit_the_settings_of_the_service(
    sandboxed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXREVAL_INFERENCE_REGISTRY_API_KEY", "secret")
    if not sandboxed:
        monkeypatch.setattr(sandbox, "command", no_sandbox)
    with made() as preprocessor:
        np.testing.assert_array_equal(applied(preprocessor, GOOD), EXPECTED)
        (pid,) = decoders()
        environment = Path(f"/proc/{pid}/environ").read_text()
    assert "OMP_NUM_THREADS=1" in environment
    assert "secret" not in environment


def no_sandbox(*_: object, **__: object) -> None:
    raise SandboxUnavailable("no sandbox")


# --- shared memory --------------------------------------------------------------------------------


def test_memory_of_a_large_image_is_given_back_and_the_decoder_cannot_write_it() -> None:
    image = SharedImage()
    image.write(bytes(MAX_IMAGE_BYTES))
    assert os.fstat(image.fd).st_blocks * 512 == MAX_IMAGE_BYTES
    image.release(MAX_IMAGE_BYTES)
    assert os.fstat(image.fd).st_blocks * 512 == 8 << 20
    for change in (lambda: os.pwrite(image.fd, b"x", 0), lambda: os.ftruncate(image.fd, 0)):
        with pytest.raises(OSError, match=r"Bad file descriptor|Invalid argument"):
            change()
    os.close(image.fd)
