"""No test, and no part of the demo, waits for a process, thread or future without a limit."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY

RUN = {"run", "call", "check_call", "check_output"}
WAIT = {"wait", "communicate", "join", "result", "get"}
"""Methods of processes, threads, events, queues and futures that wait when they have no argument.

`join` and `get` of texts and mappings always have one.
"""


def unlimited(tree: ast.AST) -> Iterator[str]:
    """Yields each call that may wait for ever, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if "subprocess.Popen(" in ast.unparse(item.context_expr):
                    yield f"{node.lineno}: the end of this block waits for the process"
        if not isinstance(node, ast.Call):
            continue
        names = {keyword.arg for keyword in node.keywords}
        if passes_wait(node) and not names & {"timeout", "args", "kwargs"}:
            yield f"{node.lineno}: {ast.unparse(node)[:80]}"
        if not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        if "timeout" in names:
            continue
        runs = owner == "subprocess" and name in RUN and None not in names
        # Popen.communicate's first argument is the input.
        waits = name in WAIT and (not node.args or name == "communicate")
        if runs or waits:
            yield f"{node.lineno}: {ast.unparse(node)[:80]}"


def passes_wait(call: ast.Call) -> bool:
    """Returns whether a call gets a waiting method as an argument, and no argument for it."""
    passed = [*call.args[-1:], *(keyword.value for keyword in call.keywords)]
    return any(
        isinstance(argument, ast.Attribute)
        and argument.attr in WAIT - {"get"}
        and not isinstance(argument.value, ast.Constant)
        for argument in passed
    )


@pytest.mark.parametrize("part", ["tests", "demo"])
def test_every_wait_has_a_limit(part: str) -> None:
    found = [
        f"{file.relative_to(REPOSITORY)}:{call}"
        for file in sorted((REPOSITORY / part).rglob("*.py"))
        for call in unlimited(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "subprocess.run(['x'])",
        "subprocess.check_output(['x'], text=True)",
        "process.wait()",
        "process.communicate()",
        "process.communicate(b'input')",
        "thread.join()",
        "waiting.get()",
        "future.result()",
        "with subprocess.Popen(['x']) as process: pass",
        "stack.callback(process.wait)",
        "stack.callback(lambda: process.wait())",
        "pool.submit(event.wait)",
        "asyncio.to_thread(future.result)",
        "Thread(target=event.wait)",
        "partial(thread.join)",
    ],
)
def test_a_wait_without_a_limit_is_found(text: str) -> None:
    assert list(unlimited(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "subprocess.run(['x'], timeout=1)",
        "process.wait(5)",
        "process.communicate(timeout=5)",
        "','.join(names)",
        "values.get('name')",
        "future.result(timeout=5)",
        "stack.callback(process.wait, 60)",
        "stack.callback(process.wait, timeout=60)",
        "Thread(target=event.wait, args=(60,))",
        "map(','.join, rows)",
        "parametrize('names', names, ids=' '.join)",
        "sorted(names, key=ages.get)",
    ],
)
def test_a_wait_with_a_limit_is_allowed(text: str) -> None:
    assert not list(unlimited(ast.parse(text)))
