"""Every rpc declares its allowed callers; a server with an undeclared rpc does not start."""

import asyncio
import importlib
import pkgutil
import types

import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import CollectorRegistry

import cxreval.api
from cxreval.api.oip import grpc_predict_v2_pb2
from cxreval.api.registry.v1 import benchmark_service_pb2_grpc
from cxreval.records import Role
from services.chassis import reflection
from services.chassis.config import ServerConfig
from services.chassis.interceptors import access
from services.chassis.server import Server


def services():
    """Returns every service in a module of `cxreval.api`, and those that every server adds."""
    names = (module.name for module in pkgutil.walk_packages(cxreval.api.__path__, "cxreval.api."))
    modules = [importlib.import_module(name) for name in names if name.endswith("_pb2")]
    files = [module.DESCRIPTOR for module in (health_pb2, reflection_pb2, *modules)]
    v1 = descriptor_pool.Default().FindServiceByName(reflection.V1)
    return [v1, *(service for file in files for service in file.services_by_name.values())]


RULES = {
    f"{service.full_name}/{method}": access.allowed_roles(service.full_name, method)
    for service in services()
    for method in service.methods_by_name
}


def test_every_rpc_of_every_service_has_a_rule():
    assert len(RULES) > 50
    assert {
        rpc.partition("/")[0] for rpc, roles in RULES.items() if roles is None
    } == access.OPEN_SERVICES
    assert all(roles for roles in RULES.values() if roles is not None)


def test_foreign_and_open_services_exist():
    names = {service.full_name for service in services()}
    assert access.OPEN_SERVICES | access.FOREIGN_SERVICES.keys() <= names
    assert (
        grpc_predict_v2_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
        in access.FOREIGN_SERVICES
    )


def test_only_rpcs_that_read_are_public():
    public = {
        rpc.rpartition("/")[2] for rpc, roles in RULES.items() if roles and Role.PUBLIC in roles
    }
    assert public
    assert all(
        method.startswith(("Get", "List", "Read", "Watch", "Compare")) for method in public
    ), public


def test_only_workers_may_call_the_workers_rpcs():
    methods = (
        "LeaseEvaluation",
        "RenewLease",
        "AppendPredictions",
        "ReadPredictions",
        "ConfirmPredictions",
        "DropPredictions",
        "CompleteEvaluation",
    )
    for method in (*methods, "FailEvaluation"):
        assert RULES[f"cxreval.api.registry.v1.EvaluationService/{method}"] == {Role.WORKER}


def test_only_operators_may_create_retire_and_reinstate_benchmarks():
    for method in (
        "CreateBenchmark",
        "RetireBenchmark",
        "ReinstateBenchmark",
        "UpdateBenchmarkCard",
    ):
        assert RULES[f"cxreval.api.registry.v1.BenchmarkService/{method}"] == {Role.OPERATOR}


def test_a_server_with_an_undeclared_rpc_does_not_start():
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/undeclared.proto", package="tests", syntax="proto3"
    )
    file.message_type.add(name="Empty")
    service = file.service.add(name="Undeclared")
    service.method.add(name="Forgotten", input_type=".tests.Empty", output_type=".tests.Empty")
    pool.AddSerializedFile(file.SerializeToString())

    class UndeclaredServicer:
        pass

    def register(_: object, server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        server.add_registered_method_handlers("tests.Undeclared", {"Forgotten": handler})

    module = types.ModuleType("undeclared_pb2_grpc")
    module.UndeclaredServicer = UndeclaredServicer
    module.add_UndeclaredServicer_to_server = register

    async def start() -> None:
        server = Server(ServerConfig(listen="127.0.0.1:0"), CollectorRegistry())
        server.add(module, UndeclaredServicer())

    with pytest.raises(
        access.UndeclaredRpc,
        match=r"tests.Undeclared/Forgotten has no option .*; list the roles in it",
    ):
        asyncio.run(start())


def test_a_servicer_implements_one_service_of_its_module_and_is_added_once():
    async def add(*servicers: object) -> None:
        server = Server(ServerConfig(listen="127.0.0.1:0"), CollectorRegistry())
        for servicer in servicers:
            server.add(benchmark_service_pb2_grpc, servicer)

    benchmarks = benchmark_service_pb2_grpc.BenchmarkServiceServicer()
    with pytest.raises(ValueError, match=r"BenchmarkService is already registered"):
        asyncio.run(add(benchmarks, benchmarks))
    with pytest.raises(
        TypeError, match=r"object implements 0 services of .*benchmark_service_pb2_grpc"
    ):
        asyncio.run(add(object()))
