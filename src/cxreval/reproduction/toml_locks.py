"""Reads the packages of `uv.lock` and `pylock.toml` (PEP 751), for the environment of one Python.

Of `uv.lock` it takes what the package of the source tree needs at run time: its dependencies and
theirs, without groups such as `dev`. The source tree itself is not installed. Of `pylock.toml` it
takes the packages whose marker is true.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.utils import canonicalize_name

from cxreval.fields import shown
from cxreval.reproduction.lock import NAME, Package, applies, package, refused

_MAX_DOTS = 8
_MAX_LINES = 50_000
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'")
_CURE = "lock wheels of a package index"


def read_uv(file: str, text: str, environment: Mapping[str, str]) -> Iterator[Package]:
    """Yields the packages of a `uv.lock`. Raises `LockRefused`."""
    document = _parsed(file, text)
    _check_version(file, "version", document.get("version"), 1)
    tables = _tables(file, document, "package")
    by_name: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        by_name.setdefault(_normal(file, table), []).append(table)
    roots = [table for table in tables if _is_root(table.get("source"))]
    if len(roots) != 1:
        problem = f"has {len(roots)} packages of the source tree"
        raise refused(file, problem, "one, with source virtual or editable at `.`")
    waiting: list[tuple[dict[str, Any], str]] = [(roots[0], "")]
    visited: set[tuple[int, str]] = set()
    while waiting:
        table, extra = waiting.pop()
        if (id(table), extra) in visited:
            continue
        visited.add((id(table), extra))
        if table is not roots[0] and not extra:
            yield _uv_package(file, text, table)
        for dependency in _dependencies(file, table, extra):
            line = _line(text, dependency.get("name"))
            if "marker" in dependency and not applies(
                file, line, dependency["marker"], environment
            ):
                continue
            wanted = _only(file, line, by_name, dependency)
            if wanted is roots[0] and not dependency.get("extra"):
                continue
            waiting.append((wanted, ""))
            waiting += [(wanted, extra) for extra in _strings(dependency.get("extra"))]


def read_pylock(file: str, text: str, environment: Mapping[str, str]) -> Iterator[Package]:
    """Yields the packages of a `pylock.toml`. Raises `LockRefused`."""
    document = _parsed(file, text)
    _check_version(file, "lock-version", document.get("lock-version"), "1.0")
    for table in _tables(file, document, "packages"):
        name = table.get("name")
        line = _line(text, name)
        if "marker" in table and not applies(file, line, table["marker"], environment, "lock_file"):
            continue
        for kind in ("vcs", "directory", "archive"):
            if kind in table:
                raise refused(
                    file, f"has {shown(name)} from {kind}", _CURE, line, package=shown(name)
                )
        hashes = []
        for wheel in _wheels(file, line, table):
            digests = wheel.get("hashes")
            digest = digests.get("sha256") if isinstance(digests, dict) else None
            if not isinstance(digest, str):
                raise refused(file, f"has a wheel of {shown(name)} without a sha256",
                              "hashes = {sha256 = ...}", line, package=shown(name))  # fmt: skip
            hashes.append(f"sha256:{digest}")
        yield package(file, line, name, table.get("version"), hashes)


def _parsed(file: str, text: str) -> dict[str, Any]:
    """Returns a TOML document.

    The time that `tomllib` takes grows with the number of tables and with the square of the parts
    of a key, so that many of either are refused before.
    """
    if text.count("\n") > _MAX_LINES:
        raise refused(file, "has too many lines", f"at most {_MAX_LINES}")
    if '"""' in text or "'''" in text:
        raise refused(file, "has a string of several lines", "strings of one line")
    for number, line in enumerate(text.split("\n"), start=1):
        if _STRING.sub("", line).count(".") > _MAX_DOTS:
            raise refused(file, "has too many dots", f"keys of at most {_MAX_DOTS} parts", number)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problem = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise refused(
            file, f"is not TOML: {shown(problem)}", "a file that its tool wrote"
        ) from None


def _check_version(file: str, key: str, found: object, expected: object) -> None:
    if found != expected or isinstance(found, bool):
        raise refused(file, f"has {key} {shown(found)!r}", f"{key} {expected!r}")


def _tables(file: str, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Returns the tables of an array of a document."""
    tables = document.get(key)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise refused(file, f"has no [[{key}]]", f"a [[{key}]] for each package")
    return tables


def _normal(file: str, table: Mapping[str, Any]) -> str:
    """Returns the normalised name in a table."""
    name = table.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        problem = f"has a package named {shown(name)!r}"
        raise refused(file, problem, "letters, digits, `.`, `_` and `-`")
    return canonicalize_name(name)


def _is_root(source: object) -> bool:
    return isinstance(source, dict) and source in ({"virtual": "."}, {"editable": "."})


def _uv_package(file: str, text: str, table: Mapping[str, Any]) -> Package:
    """Returns a package of a registry, with the digests of its wheels."""
    name, source = table.get("name"), table.get("source")
    line = _line(text, name)
    if not isinstance(source, dict) or [*source] != ["registry"]:
        kind = "/".join(map(str, source)) if isinstance(source, dict) else "no source"
        problem = f"has {shown(name)} from {shown(kind)}"
        raise refused(file, problem, _CURE, line, package=shown(name))
    hashes = [wheel.get("hash") for wheel in _wheels(file, line, table)]
    return package(file, line, name, table.get("version"), hashes)


def _wheels(file: str, line: int, table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the wheels of a package; one without wheels is refused."""
    wheels = table.get("wheels")
    if (
        not isinstance(wheels, list)
        or not wheels
        or not all(isinstance(one, dict) for one in wheels)
    ):
        name = shown(table.get("name"))
        what = "only as a source distribution" if "sdist" in table else "without wheels"
        problem = f"has {name} {what}"
        raise refused(file, problem, "wheels: a source distribution runs code", line, package=name)
    return wheels


def _dependencies(file: str, table: Mapping[str, Any], extra: str) -> list[dict[str, Any]]:
    """Returns what a package needs, or what one of its extras needs."""
    found = table.get("dependencies", [])
    if extra:
        extras = table.get("optional-dependencies", {})
        found = extras.get(extra, []) if isinstance(extras, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise refused(file, "has dependencies that are no tables", "dependencies = [{name = ...}]")
    return found


def _only(
    file: str, line: int, by_name: Mapping[str, list[dict[str, Any]]], wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the package that a dependency means."""
    name = _normal(file, wanted)
    found = [
        table
        for table in by_name.get(name, [])
        if wanted.get("version", table.get("version")) == table.get("version")
        and wanted.get("source", table.get("source")) == table.get("source")
    ]
    if len(found) != 1:
        problem = f"has {len(found)} packages for the dependency {name}"
        raise refused(file, problem, "one", line, package=name)
    return found[0]


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _line(text: str, name: object) -> int:
    """Returns the number of the line that states a package's name; 0 if there is none."""
    position = text.find(f'\nname = "{name}"\n') if isinstance(name, str) else -1
    return text.count("\n", 0, position + 1) + 1 if position >= 0 else 0
