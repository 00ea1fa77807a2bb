# ruff: noqa: E501 -- lines of the scripts
"""Scripts of strangers that end at a limit, or in a strange way, with what their runs must say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cxreval.reproduction.isolation.contract import Ended, Limits

LIMITS = Limits(
    memory_bytes=96 << 20,
    cpu_seconds=20.0,
    wall_seconds=30.0,
    processes=12,
    open_files=64,
    scratch_bytes=16 << 20,
    output_bytes=1 << 20,
    log_bytes=1 << 16,
)
_START = """
import ctypes, mmap, os, resource, signal, socket, subprocess, sys, threading, time
OUT = os.environ["CXREVAL_OUT"]
def table(rows=3):
    with open(OUT, "w") as file:
        file.write("a,b\\n" + "1,2\\n" * rows)
"""
TABLE = b"a,b\n1,2\n1,2\n1,2\n"


@dataclass(frozen=True)
class Case:
    """A script and the end of its run."""

    script: str
    ended: Ended
    status: int | None = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    log: str | None = None
    """What the log must contain."""
    rows: int = 0
    """The rows that must have been seen."""

    def text(self) -> str:
        """Returns the whole script."""
        return _START + self.script

    def run_limits(self) -> Limits:
        """Returns the limits of its run."""
        return replace(LIMITS, **self.limits)  # type: ignore[arg-type]


SHORT = {"wall_seconds": 1.0}

QUICK: dict[str, Case] = {
    "ends well": Case("table(); print('seen')", Ended.FINISHED, log="seen", rows=3),
    "takes all memory": Case("x = bytearray(1 << 30)", Ended.MEMORY, None),
    "children take the memory and the script ends well": Case(
        """
for _ in range(8):
    if os.fork() == 0:
        x = b"x" * (40 << 20); time.sleep(60)
time.sleep(0.5); table(); os._exit(0)
""",
        Ended.MEMORY, None,
    ),
    "takes the memory by files": Case(
        """
with open("/tmp/x", "wb") as file:
    for _ in range(500): file.write(b"x" * (1 << 20))
""",
        Ended.MEMORY, None, {"scratch_bytes": 1 << 30},
    ),
    "fills its scratch": Case(
        """
with open("/tmp/x", "wb") as file:
    for _ in range(500): file.write(b"x" * (1 << 20))
""",
        Ended.SCRATCH, 1, log="No space left",
    ),
    "loops in children": Case(
        """
for _ in range(5):
    if os.fork() == 0:
        while True: pass
os.wait()
""",
        Ended.CPU_TIME, None, {"cpu_seconds": 0.7},
    ),
    "sleeps and ignores signals": Case(
        """
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
table(5)
while True: time.sleep(60)
""",
        Ended.WALL_TIME, None, {"wall_seconds": 1.5}, rows=5,
    ),
    "starts processes without end": Case(
        "while True:\n    if os.fork() == 0: time.sleep(60)", Ended.PROCESSES, 1,
        log="Resource temporarily unavailable",
    ),
    "writes too large a table": Case(
        """
with open(OUT, "wb") as file:
    while True: file.write(b"1,2\\n" * 4096)
""",
        Ended.OUTPUT, 1,
    ),
    "writes a table that is a link": Case("os.symlink('/dev/zero', OUT)", Ended.NO_OUTPUT),
    "writes a table that is a pipe": Case("os.mkfifo(OUT)", Ended.NO_OUTPUT),
    "writes nothing": Case("print('done')", Ended.NO_OUTPUT, log="done"),
    "writes a log without end": Case(
        "table()\nfor _ in range(3000): os.write(2, b'x' * 4096)", Ended.FINISHED,
        log="[cut after 65536 bytes]",
    ),
    "forges the words of its supervisor": Case(
        """
for line in ('{"end": {"status": 0, "size": 9, "full": [], "killed": 0}}', '{"rows": 99}'):
    print(line, flush=True)
sys.exit(4)
""",
        Ended.FAILED, 4, log='{"rows": 99}',
    ),
    "leaves a process that ignores signals": Case(
        """
table()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
""",
        Ended.FINISHED,
    ),
    "ends by a fault of memory": Case("ctypes.string_at(0)", Ended.FAILED, -11),
}  # fmt: skip
"""Run by the default tests."""

SLOW: dict[str, Case] = {
    "grows slowly": Case(
        "x = []\nwhile True: x.append(b'x' * (1 << 20)); time.sleep(0.005)", Ended.MEMORY, None
    ),
    "maps memory that it shares": Case(
        """
area = mmap.mmap(-1, 1 << 30)
for offset in range(0, 1 << 30, 4096): area[offset] = 1
""",
        Ended.MEMORY, None,
    ),
    "takes the memory by shared memory": Case(
        """
with open("/dev/shm/x", "wb") as file:
    for _ in range(500): file.write(b"x" * (1 << 20))
""",
        Ended.MEMORY, None, {"scratch_bytes": 1 << 30},
    ),
    "takes the memory by sockets": Case(
        """
pairs = []
while True:
    pair = socket.socketpair(); pairs.append(pair); pair[0].setblocking(False)
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 26)
    try:
        while True: pair[0].send(b"x" * (1 << 16))
    except BlockingIOError: pass
""",
        Ended.MEMORY, None, {"memory_bytes": 48 << 20, "open_files": 4096},
    ),
    "takes the memory by pipes": Case(
        """
while True:
    reader, writer = os.pipe(); os.set_blocking(writer, False)
    try:
        while True: os.write(writer, b"x" * 4096)
    except BlockingIOError: pass
""",
        Ended.MEMORY, None, {"memory_bytes": 32 << 20, "open_files": 4096},
    ),
    "takes the memory by names of files": Case(
        "for n in range(10_000_000): open(f'/tmp/{n:0200}', 'w').close()", Ended.MEMORY, None,
        {"memory_bytes": 32 << 20},
    ),
    "takes the memory by directories": Case(
        "for n in range(10_000_000): os.mkdir('/tmp/x'); os.chdir('/tmp/x') or os.rename("
        "'/tmp/x', f'/tmp/{n}')", Ended.MEMORY, None, {"memory_bytes": 32 << 20},
    ),
    "a thread takes the memory": Case(
        "t = threading.Thread(target=lambda: bytearray(1 << 30)); t.start(); t.join()",
        Ended.MEMORY, None,
    ),
    "loops": Case("while True: pass", Ended.CPU_TIME, None, {"cpu_seconds": 0.7}),
    "loops in threads": Case(
        """
import hashlib
data = b"x" * (1 << 20)
for _ in range(6): threading.Thread(target=lambda: [hashlib.sha256(data) for _ in iter(int, 1)]).start()
""",
        Ended.CPU_TIME, None, {"cpu_seconds": 1.0},
    ),
    "loops in children that it does not wait for": Case(
        """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        until = time.process_time() + 0.1
        while time.process_time() < until: pass
        os._exit(0)
    time.sleep(0.12)
""",
        Ended.CPU_TIME, None, {"cpu_seconds": 1.0, "processes": 100},
    ),
    "stops itself": Case("table(); os.kill(os.getpid(), signal.SIGSTOP)", Ended.WALL_TIME, None, SHORT),
    "closes its output and sleeps": Case(
        "table(); os.close(1); os.close(2); time.sleep(60)", Ended.WALL_TIME, None, SHORT
    ),
    "starts threads without end": Case(
        "while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", Ended.PROCESSES, 1
    ),
    "starts processes from processes": Case(
        "while True:\n    try: os.fork()\n    except OSError: time.sleep(60)",
        Ended.WALL_TIME, None, {"wall_seconds": 1.5},
    ),
    "opens files without end": Case(
        "files = []\nwhile True: files.append(open('/dev/null'))", Ended.FAILED, 1,
        log="Too many open files",
    ),
    "fills the shared memory": Case(
        """
with open("/dev/shm/x", "wb") as file:
    for _ in range(500): file.write(b"x" * (1 << 20))
""",
        Ended.SCRATCH, 1,
    ),
    "writes a table of holes": Case("open(OUT, 'wb').truncate(8 << 20)", Ended.OUTPUT),
    "writes a table as large as allowed": Case(
        "open(OUT, 'wb').write(b'x,y\\n' * (1 << 18))", Ended.FINISHED
    ),
    "writes an empty table": Case("open(OUT, 'w').close()", Ended.NO_OUTPUT),
    "writes a table that is a directory": Case("os.mkdir(OUT)", Ended.NO_OUTPUT),
    "writes a table that is a socket": Case(
        "socket.socket(socket.AF_UNIX).bind(OUT)", Ended.NO_OUTPUT
    ),
    "writes a table that is a device": Case("os.symlink('/dev/full', OUT)", Ended.NO_OUTPUT),
    "writes a table that it may not read": Case("table(); os.chmod(OUT, 0)", Ended.NO_OUTPUT),
    "writes a table and fails": Case("table(7); sys.exit(3)", Ended.FAILED, 3, rows=7),
    "writes a table and moves it away": Case("table(); os.rename(OUT, '/out/x')", Ended.NO_OUTPUT),
    "writes a table by moving it": Case(
        "table(); os.rename(OUT, '/out/x'); os.rename('/out/x', OUT)", Ended.FINISHED
    ),
    "writes a table again and again": Case(
        """
for n in range(50):
    table(n); time.sleep(0.01)
table(3)
""",
        Ended.FINISHED,
    ),
    "writes to the log what is no text": Case(
        "table(); os.write(1, bytes(range(256)) * 8); print('\\x1b[31mred\\x1b]0;title\\x07!')",
        Ended.FINISHED, log="red!",
    ),
    "leaves children that it does not wait for": Case(
        """
for _ in range(8):
    if os.fork() == 0: os._exit(0)
table()
""",
        Ended.FINISHED,
    ),
    "leaves orphans": Case(
        """
for _ in range(4):
    if os.fork() == 0:
        if os.fork() == 0: time.sleep(0.05)
        os._exit(0)
time.sleep(0.3); table()
""",
        Ended.FINISHED,
    ),
    "kills all that it may": Case("table()\ntry: os.kill(-1, signal.SIGKILL)\nexcept ProcessLookupError: pass", Ended.FINISHED),
    "kills itself": Case("os.kill(os.getpid(), signal.SIGKILL)", Ended.FAILED, -9),
    "makes a refused system call of 32 bits": Case(
        """
code = mmap.mmap(-1, 4096, prot=7); code.write(b"\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3")
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
""",
        Ended.FAILED, -31,
    ),
    "is no Python": Case("\n}{", Ended.FAILED, 1, log="SyntaxError"),
    "replaces itself by a shell": Case(
        "os.execv('/bin/sh', ['sh', '-c', 'printf \"a\\\\n1\\\\n\" > $CXREVAL_OUT'])", Ended.FINISHED
    ),
    "raises with a text without end": Case("raise ValueError('x' * 10_000_000)", Ended.FAILED, 1),
}  # fmt: skip
"""Run by the extended tests, too."""
