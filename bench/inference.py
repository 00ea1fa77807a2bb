"""Benchmark: the inference service, onnxruntime in one process, a gRPC echo, a naive server, mosec.

    .venv/bin/python -m bench.inference [CASE ...] [--seconds 5] [--rounds 3]

Cases: densenet, light, abandoned, overload, png, memory, start, host; default: all. Clients are
coroutines of this process, each with one outstanding request; servers are separate processes on the
same cores. The contestants of a case run in turn, `--rounds` times, and the medians are printed.
`light` is a model that takes almost no time, so that the server itself is measured. `naive` is a
minimal grpc.aio server of the protocol, without batching, limits or metrics; `echo` returns each
message unparsed. DenseNet-121 has random weights and needs the `export` extra.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import onnxruntime

from bench import inference_peers
from bench.walk import densenet
from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from tests.conftest import REPOSITORY
from tests.support import onnx_models
from tests.support.inference import InferenceService, image_request, random_images, tensor_request
from tests.support.processes import free_port

CORES = len(os.sched_getaffinity(0))
PROFILE = "xrv-224"
INFER = "/inference.GRPCInferenceService/ModelInfer"
LARGE = [("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30)]
Call = Callable[[], Awaitable[Any]]


def main() -> None:
    """Runs the cases named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"{CORES} cores, onnxruntime {onnxruntime.__version__}, grpcio {grpc.__version__}, "
        f"load {os.getloadavg()[0]:.2f}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.cases or CASES:
            directory = Path(scratch) / name
            directory.mkdir()
            print(f"\n{name}")
            asyncio.run(CASES[name](Bench(directory, arguments.seconds, arguments.rounds)))


class Bench:
    """Starts the servers and measures the rates of one case."""

    def __init__(self, directory: Path, seconds: float, rounds: int) -> None:
        self.directory = directory
        self.seconds = seconds
        self.rounds = rounds

    @contextlib.asynccontextmanager
    async def service(
        self, checkpoint: Path, *flags: str, profile: str = ""
    ) -> AsyncIterator[Served]:
        """Runs the inference service with one model loaded."""
        with tempfile.TemporaryDirectory(dir=self.directory) as home:
            service = InferenceService(Path(home), *flags)
            service.models.mkdir()
            digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
            shutil.copyfile(checkpoint, service.models / f"{digest}.onnx")
            with service:
                async with grpc.aio.insecure_channel(service.address, options=LARGE) as channel:
                    request = pb.RepositoryModelLoadRequest(model_name=digest)
                    if profile:
                        request.parameters["profile"].string_param = profile
                    load = channel.unary_unary(
                        "/inference.GRPCInferenceService/RepositoryModelLoad",
                        request_serializer=pb.RepositoryModelLoadRequest.SerializeToString,
                    )
                    await load(request, timeout=120)
                    assert service.process
                    yield Served(channel, digest, service.process.pid, service)

    @contextlib.contextmanager
    def peer(self, name: str, checkpoint: Path, threads: int) -> Iterator[tuple[str, int]]:
        """Runs a server of `bench.inference_peers`; yields its address and process id."""
        address = f"127.0.0.1:{free_port()}"
        command = [
            sys.executable,
            "-m",
            "bench.inference_peers",
            name,
            address,
            str(checkpoint),
            str(threads),
        ]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield address, process.pid
        finally:
            process.terminate()
            process.wait(timeout=600)

    async def rates(self, contestants: dict[str, tuple[Call, int]]) -> dict[str, float]:
        """Returns the median responses per second of each contestant.

        A contestant is a call and the number of clients that make it concurrently.
        """
        rounds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(self.rounds):
            for name, (call, clients) in contestants.items():
                rounds[name].append((await loop(call, clients, self.seconds))[0])
        return {name: statistics.median(rates) for name, rates in rounds.items()}


class Served:
    """A model loaded in the service, with its channel."""

    def __init__(
        self, channel: grpc.aio.Channel, digest: str, pid: int, service: InferenceService
    ) -> None:
        self.digest, self.pid, self.service = digest, pid, service
        self._infer: Any = channel.unary_unary(
            INFER, response_deserializer=pb.ModelInferResponse.FromString
        )

    def ask(self, request: pb.ModelInferRequest, timeout: float | None = None) -> Call:
        """Returns a call that sends the request's bytes."""
        content = request.SerializeToString()
        return lambda: self._infer(content, timeout=timeout)


async def loop(call: Call, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Returns responses per second and the latencies when `clients` call in a loop."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        while (start := time.perf_counter()) < end:
            await call()
            taken.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return len(taken) / (time.perf_counter() - start), taken


def alone(checkpoint: Path, threads: int, images: np.ndarray) -> Call:
    """Returns a call of onnxruntime in this process, with the service's settings."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(checkpoint, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    async def run() -> None:
        session.run(None, {name: images})

    return run


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def radiographs() -> list[bytes]:
    """Returns the real radiographs of CXREVAL_SHARED or ../shared."""
    shared = Path(os.environ.get("CXREVAL_SHARED", REPOSITORY.parent / "shared"))
    return [file.read_bytes() for file in sorted((shared / "nih-chestxray14/images").glob("*.png"))]


def densenet_file(directory: Path) -> Path:
    """Exports DenseNet-121 with its real shapes."""
    shared = Path(os.environ.get("CXREVAL_SHARED", REPOSITORY.parent / "shared"))
    directory.mkdir(exist_ok=True)
    return densenet(directory, sorted((shared / "nih-chestxray14/images").glob("*.png")))[0]


def light_file(directory: Path) -> Path:
    """Writes the model that takes almost no time."""
    return directory / f"{onnx_models.classifier(directory)}.onnx"


def against(rates: dict[str, float], ceiling: str, unit: str = "images/s") -> None:
    """Prints rates with their ratio to the rate of `ceiling`."""
    for name, rate in rates.items():
        print(f"  {name:<34} {rate:9.1f} {unit}   {rate / rates[ceiling]:5.2f} of {ceiling}")


async def case_densenet(bench: Bench) -> None:
    """DenseNet-121: one client with one and two threads; 8 and 32 clients."""
    checkpoint = densenet_file(bench.directory)
    image = random_images(1)
    for threads in dict.fromkeys((1, CORES)):
        async with bench.service(checkpoint, "--threads", str(threads)) as served:
            call = served.ask(tensor_request(served.digest, image, "pixels"))
            contestants = {f"in process, {threads} threads": (alone(checkpoint, threads, image), 1)}
            clients = (1, 8, 32) if threads == CORES else (1,)
            contestants |= {f"service, {count} clients": (call, count) for count in clients}
            with contextlib.ExitStack() as stack:
                if threads == CORES:
                    address, _ = stack.enter_context(bench.peer("mosec", checkpoint, threads))
                    ask = await inference_peers.mosec_client(address, image.tobytes())
                    contestants |= {f"mosec, {count} clients": (ask, count) for count in (1, 8)}
                against(await bench.rates(contestants), f"in process, {threads} threads")


async def case_light(bench: Bench) -> None:
    """The light model: one client, 32 clients, requests of 16 images; CPU time per request."""
    checkpoint = light_file(bench.directory)
    byte_model = bench.directory / f"{onnx_models.uint8_classifier(bench.directory)}.onnx"
    one, sixteen = random_images(1), random_images(16)
    async with (
        bench.service(checkpoint, "--threads", "1") as served,
        bench.service(byte_model, "--threads", "1") as small,
    ):
        call = served.ask(tensor_request(served.digest, one))
        await loop(call, 1, 1)
        _, taken = await loop(call, 1, bench.seconds)
        print(
            f"  one client: p50 {statistics.median(taken) * 1e3:.2f} ms, "
            f"p99 {np.percentile(taken, 99) * 1e3:.2f} ms"
        )
        message = tensor_request(served.digest, one).SerializeToString()
        with (
            bench.peer("echo", checkpoint, 1) as (echo, _),
            bench.peer("naive", checkpoint, 1) as (naive, naive_pid),
        ):
            async with (
                grpc.aio.insecure_channel(echo, options=LARGE) as echo_channel,
                grpc.aio.insecure_channel(naive, options=LARGE) as naive_channel,
            ):
                await asyncio.gather(echo_channel.channel_ready(), naive_channel.channel_ready())
                to_echo, to_naive = (
                    echo_channel.unary_unary(INFER),
                    naive_channel.unary_unary(INFER),
                )
                bytes_request = tensor_request(small.digest, np.zeros((1, 1, 224, 224), np.uint8))
                bytes_request.inputs[0].datatype = "UINT8"
                batch = served.ask(tensor_request(served.digest, sixteen))
                naive_batch = tensor_request("", sixteen).SerializeToString()
                contestants: dict[str, tuple[Call, int]] = {
                    "echo, 32 clients": (lambda: to_echo(message), 32),
                    "service, 32 clients": (call, 32),
                    "service, UINT8, 32 clients": (small.ask(bytes_request), 32),
                    "naive, 32 clients": (lambda: to_naive(message), 32),
                    "service, 4 x 16 images": (batch, 4),
                    "naive, 4 x 16 images": (lambda: to_naive(naive_batch), 4),
                }
                rates = await bench.rates(contestants)
                against(
                    {name: rate * (16 if "16" in name else 1) for name, rate in rates.items()},
                    "echo, 32 clients",
                )
                for name, pid in (
                    ("service, 32 clients", served.pid),
                    ("service, UINT8, 32 clients", small.pid),
                    ("naive, 32 clients", naive_pid),
                ):
                    before = cpu_seconds(pid)
                    _, taken = await loop(*contestants[name], bench.seconds)
                    cpu_ms = (cpu_seconds(pid) - before) / len(taken) * 1e3
                    print(f"  {name:<34} {cpu_ms:9.2f} ms of server CPU per request")


async def case_abandoned(bench: Bench) -> None:
    """DenseNet-121: 64 calls cancelled after 100 ms, then one more; default settings for a CPU."""
    checkpoint = densenet_file(bench.directory)
    async with bench.service(checkpoint) as served:
        request = tensor_request(served.digest, random_images(1), "pixels")
        ask = served.ask(request)
        _, taken = await loop(ask, 1, bench.seconds)
        single = statistics.median(taken)
        waits, before = [], served.service.metrics()
        for _ in range(bench.rounds):
            calls = [asyncio.ensure_future(ask()) for _ in range(64)]
            await asyncio.sleep(0.1)
            for call in calls:
                call.cancel()
            start = time.perf_counter()
            await ask()
            waits.append((time.perf_counter() - start) / single)
            await asyncio.wait(calls)
        after = served.service.metrics()
    dropped, reached = (
        (after[name] - before[name]) / bench.rounds
        for name in ("cxreval_inference_dropped_images_total", "cxreval_inference_batch_images_sum")
    )
    print(
        f"  the last request takes {statistics.median(waits):.2f} times a single request "
        f"of {single * 1e3:.0f} ms"
    )
    print(
        f"  of the 64 cancelled, {dropped:.1f} were dropped and {reached - 1:.1f} reached the model"
    )


async def case_overload(bench: Bench) -> None:
    """An open load of four times the capacity."""
    checkpoint = densenet_file(bench.directory)
    async with bench.service(checkpoint, "--max-queued-images", "16") as served:
        call = served.ask(tensor_request(served.digest, random_images(1), "pixels"), timeout=30)
        capacity, _ = await loop(call, 8, bench.seconds)
        answered, refused = 0, []

        async def arrive() -> None:
            nonlocal answered
            start = time.perf_counter()
            try:
                await call()
                answered += 1
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                refused.append(time.perf_counter() - start)

        calls = []
        start = time.perf_counter()
        for number in range(int(4 * capacity * 3 * bench.seconds)):
            await asyncio.sleep(max(0.0, start + number / (4 * capacity) - time.perf_counter()))
            calls.append(asyncio.create_task(arrive()))
        await asyncio.wait(calls)
        goodput = answered / (time.perf_counter() - start)
    print(
        f"  capacity {capacity:.1f} images/s, offered {4 * capacity:.1f}, answered {goodput:.1f}: "
        f"{goodput / capacity:.2f}"
    )
    print(
        f"  {len(refused)} refused: p50 {np.median(refused) * 1e3:.1f} ms, "
        f"p99 {np.percentile(refused, 99) * 1e3:.1f} ms"
    )


async def case_png(bench: Bench) -> None:
    """Real radiographs as PNG, beside decoding alone and the model alone on all cores."""
    checkpoint, files = densenet_file(bench.directory), radiographs()
    profile = PROFILES[PROFILE]
    tensors = np.concatenate([profile.apply(decode(file)) for file in files[:16]])
    async with bench.service(checkpoint, profile=PROFILE) as served:
        batch = served.ask(image_request(served.digest, files[:16]))
        decoding = decode_rate(files)
        rates = await bench.rates(
            {"model alone": (alone(checkpoint, CORES, tensors), 1), "service, 4 x 16": (batch, 4)}
        )
    rates = {name: 16 * rate for name, rate in rates.items()}
    both = 1 / (1 / rates["model alone"] + 1 / decoding)
    against({"decoding alone": decoding} | rates | {"both on the same cores": both}, "model alone")
    served_rate, smaller = rates["service, 4 x 16"], min(decoding, rates["model alone"])
    print(
        f"  service: {served_rate / smaller:.2f} of the smaller ceiling, "
        f"{served_rate / both:.2f} of both on the same cores"
    )


def decode_rate(files: Sequence[bytes]) -> float:
    """Returns the images per second of decoding and preprocessing on all cores."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(CORES) as pool:
        start = time.perf_counter()
        list(pool.map(lambda file: PROFILES[PROFILE].apply(decode(file)), files))
        return len(files) / (time.perf_counter() - start)


async def case_memory(bench: Bench) -> None:
    """Memory after 1,000 and after 10,000 mixed requests."""
    checkpoint, files = light_file(bench.directory), radiographs()
    async with bench.service(checkpoint, "--threads", "1", profile=PROFILE) as served:
        sizes = (1, 3, 16, 40)
        calls = [served.ask(tensor_request(served.digest, random_images(size))) for size in sizes]
        calls += [
            served.ask(image_request(served.digest, files[start : start + 1])) for start in range(4)
        ]
        calls.append(served.ask(pb.ModelInferRequest(model_name="unknown")))
        memory = {}
        for number in range(10_001):
            if number in (1_000, 10_000):
                memory[number] = resident_bytes(served.pid)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await asyncio.gather(
                    *(
                        calls[(number + other) % len(calls)]()
                        for other in range(2 if number % 2 else 1)
                    )
                )
    first, last = memory.values()
    print(
        f"  {first / 2**20:.0f} MiB after 1,000, {last / 2**20:.0f} MiB after 10,000: "
        f"{last / first:.3f}"
    )


async def case_start(bench: Bench) -> None:
    """Time from the command to readiness with DenseNet-121, beside the imports alone."""
    checkpoint = densenet_file(bench.directory)
    imports, starts = [], []
    for _ in range(bench.rounds):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "import services.inference.__main__"],
            cwd=REPOSITORY,
            check=True,
            timeout=120,
        )
        imports.append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory(dir=bench.directory) as home:
            start = time.perf_counter()
            with InferenceService(Path(home), "--model", str(checkpoint)):
                starts.append(time.perf_counter() - start)
    after = statistics.median(starts) - statistics.median(imports)
    print(
        f"  {checkpoint.stat().st_size / 1e6:.0f} MB: ready {statistics.median(starts):.2f} s "
        f"after the command, {after:.2f} s after the imports"
    )


async def case_host(bench: Bench) -> None:
    """A model host of DenseNet-121: time from the call to ready, and memory beside one process."""
    checkpoint, image = densenet_file(bench.directory), random_images(1)
    script = (
        "import sys, numpy, onnxruntime\n"
        "def private():\n"
        "    lines = open('/proc/self/smaps_rollup').read().split()\n"
        "    return sum(int(lines[lines.index(f'Private_{kind}:') + 1]) "
        "for kind in ('Clean', 'Dirty'))\n"
        "before = private()\n"
        "session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "name = session.get_inputs()[0].name\n"
        "session.run(None, {name: numpy.zeros((1, 1, 224, 224), numpy.float32)})\n"
        "print(private() - before)\n"
    )
    opened = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint)], capture_output=True, check=True, timeout=60
    )
    own = int(opened.stdout) / 1024
    loads = []
    for _ in range(bench.rounds):
        start = time.perf_counter()
        async with bench.service(checkpoint) as served:
            load = served.service.metrics()[
                'cxreval_inference_model_load_seconds_sum{outcome="loaded"}'
            ]
            loads.append(load)
            await served.ask(tensor_request(served.digest, image, "pixels"))()
            memory = smaps(served.service.hosts()[served.digest])
        print(f"  service and load {time.perf_counter() - start:.2f} s, load call {load:.2f} s")
    private = memory["Private_Clean"] + memory["Private_Dirty"]
    print(
        f"  {checkpoint.stat().st_size / 1e6:.0f} MB: load call to ready "
        f"{statistics.median(loads):.2f} s; private memory {private:.0f} MiB, of which the model "
        f"takes {own:.0f} in one process: {private - own:.0f} MiB for the host; "
        f"shared clean {memory['Shared_Clean']:.0f} MiB"
    )


def smaps(pid: int) -> dict[str, float]:
    """Returns the memory of a process by kind, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}


CASES: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "densenet": case_densenet,
    "light": case_light,
    "abandoned": case_abandoned,
    "overload": case_overload,
    "png": case_png,
    "memory": case_memory,
    "start": case_start,
    "host": case_host,
}

if __name__ == "__main__":
    main()
