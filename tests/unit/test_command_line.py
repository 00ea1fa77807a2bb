"""A command waits only for the libraries that it uses: `cxreval --help` was once 1.2 seconds away."""

import subprocess
import sys

SLOW = ("scipy.special", "scipy.stats", "scipy.sparse", "pydicom", "onnx", "torch", "onnxruntime")


def test_the_command_line_starts_without_the_libraries_that_only_some_commands_need():
    program = f"import sys, cxreval.cli.app; print([name for name in {SLOW} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "[]\n"
