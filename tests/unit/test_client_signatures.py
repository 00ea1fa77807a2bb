"""No protobuf in the client's signatures."""

import dataclasses
import inspect
import typing

import pytest

import cxreval.client

PUBLIC = [getattr(cxreval.client, name) for name in cxreval.client.__all__]


def mentioned(hint):
    yield getattr(hint, "__module__", "")
    for argument in typing.get_args(hint):
        yield from mentioned(argument)


def signatures(thing):
    if dataclasses.is_dataclass(thing):
        yield typing.get_type_hints(thing)
    elif inspect.isclass(thing):
        methods = inspect.getmembers(thing, inspect.isfunction)
        yield from (
            typing.get_type_hints(method) for name, method in methods if not name.startswith("_")
        )
    else:
        yield typing.get_type_hints(thing)


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_public_signatures_speak_no_protobuf(thing):
    modules = {
        module
        for hints in signatures(thing)
        for hint in hints.values()
        for module in mentioned(hint)
    }
    assert not [
        module for module in modules if module.startswith(("cxreval.api", "google", "grpc"))
    ]
