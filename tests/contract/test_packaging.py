"""The wheel's metadata: each part of cxreval imports only what its own extra installs."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cxreval.errors import ExtraMissing
from cxreval.extras import require_extra
from tests.conftest import REPOSITORY
from tests.support.wheel import build_wheel

OWNERS = {
    "cxreval": "",
    "cxreval.cli.plots": "score",
    "cxreval.cli.prediction_table": "parquet",
    "cxreval.datasets.parquet_child": "parquet",
    "cxreval.export": "export",
    "cxreval.imaging": "images",
    "cxreval.metrics.report": "pandas",
    "cxreval.onnx_file": "onnx",
    "cxreval.reproduction": "reproduction",
    "services": "server",
    "services.inference": "inference",
    "services.leaderboard": "leaderboard",
    "services.registry.store.s3_artifacts": "s3",
}
"""The extra that installs what a part imports; a module belongs to the longest name that fits."""

IMPORTS_BASE = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
for module in {modules}:
    importlib.import_module(module)
"""


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The distributions that the wheel requires, by extra; always required ones are under ""."""
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    with zipfile.ZipFile(wheel) as archive:
        (file,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(file).decode())
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]

    def required(extra: str) -> set[str]:
        names: set[str] = set()
        for requirement in requirements:
            marker = requirement.marker
            if not (marker is None if not extra else marker and marker.evaluate({"extra": extra})):
                continue
            if canonicalize_name(requirement.name) == "cxreval":
                names.update(*map(required, requirement.extras))
            else:
                names.add(canonicalize_name(requirement.name))
        return names

    return {extra: required(extra) for extra in ("", *metadata.get_all("Provides-Extra", []))}


def python_files() -> dict[str, Path]:
    """Returns the file of every module of the library and the services, by the module's name.

    The example script, which submitters copy, is no module.
    """
    files = {}
    for root in (REPOSITORY / "src", REPOSITORY):
        for package in ("cxreval", "services"):
            for file in (root / package).rglob("*.py"):
                if file.parent.name == "example":
                    continue
                parts = file.relative_to(root).with_suffix("").parts
                files[".".join(parts).removesuffix(".__init__")] = file
    return files


def owner(module: str) -> str:
    """Returns the extra of the part that a module belongs to."""
    parents = [name for name in OWNERS if f"{module}.".startswith(f"{name}.")]
    return OWNERS[max(parents, key=len)]


def third_party(file: Path) -> set[str]:
    """Returns the modules that a file imports, at any level, from other distributions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    own = {*sys.stdlib_module_names, "cxreval", "services"}
    return {name for name in names if name.partition(".")[0] not in own}


@functools.cache
def installed() -> Mapping[str, Sequence[str]]:
    """Returns the distributions of each top-level module in this environment."""
    return importlib.metadata.packages_distributions()


def distributions(module: str) -> set[str]:
    """Returns the distributions that may have a module; several share the name `google`."""
    if module.startswith("google.rpc"):
        return {"googleapis-common-protos"}
    names = {canonicalize_name(name) for name in installed().get(module.partition(".")[0], [])}
    return names - ({"googleapis-common-protos"} if module.startswith("google.protobuf") else set())


@pytest.mark.parametrize("part", OWNERS)
def test_a_part_imports_only_what_its_extra_installs(
    part: str, extras: dict[str, set[str]]
) -> None:
    extra = OWNERS[part]
    # PyTorch may be absent here; its modules have their distributions' names.
    allowed = extras[""] | extras[extra]
    modules = {
        name: file
        for name, file in python_files().items()
        if f"{name}.".startswith(f"{part}.") and owner(name) == extra
    }
    assert modules
    uncovered = {
        (name, module)
        for name, file in modules.items()
        for module in third_party(file)
        if not (distributions(module) or {module.partition(".")[0]}) & allowed
    }
    assert not uncovered


def test_each_package_that_is_always_installed_is_imported(extras: dict[str, set[str]]) -> None:
    imported = {
        name
        for module, file in python_files().items()
        if not owner(module)
        for name in third_party(file)
    }
    assert extras[""] <= {item for name in imported for item in distributions(name)}


def test_client_command_line_and_score_import_without_any_extra(
    extras: dict[str, set[str]],
) -> None:
    optional = set().union(*extras.values()) - extras[""]
    absent = {
        module
        for module, names in installed().items()
        if {canonicalize_name(name) for name in names} <= optional
    }
    assert {"onnx", "pyarrow", "scipy", "sqlalchemy"} <= absent
    modules = (
        "cxreval.cli.app",
        "cxreval.cli.artifact",
        "cxreval.client",
        "cxreval.metrics.report",
    )
    program = IMPORTS_BASE.format(absent=absent, modules=modules)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_extras_that_messages_name_exist(extras: dict[str, set[str]]) -> None:
    files = [*python_files().values(), *REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    named = re.findall(r"'(?:cxreval|\.)\[([a-z0-9,]+)\]'", text)
    named += re.findall(r"""^(?: *require_extra|require)\(\s*"([a-z0-9]+)",""", text, re.MULTILINE)
    assert {extra for names in named for extra in names.split(",")} <= set(extras)
    assert {"server", "postgres", "s3", "inference"} <= set(extras)


def test_message_about_a_missing_extra_has_the_command_that_installs_it() -> None:
    require_extra("score", "this", "sys", "json")
    with pytest.raises(ExtraMissing) as caught:
        require_extra("score", "cxreval score --plot", "sys", "no_such_module", "nor_this")
    assert caught.value.message == (
        "cxreval score --plot needs no_such_module, which comes with an extra: "
        "pip install 'cxreval[score]'"
    )
    assert caught.value.metadata == {"extra": "score", "module": "no_such_module"}
