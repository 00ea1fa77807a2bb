"""The deployment files agree with Kubernetes' schemas, the programs' settings and the guides."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from cxreval.audit.receipts import Signer
from cxreval.cli.app import app
from cxreval.files import MAX_ARTIFACT_BYTES
from cxreval.wire.limits import MIB
from services.chassis.server import LIVE
from services.registry.store.vault import Vault
from tests.conftest import REPOSITORY, missing, require_module

KUBERNETES = "1.37"
DEPLOY = REPOSITORY / "deploy"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
DEPLOY_GUIDE = REPOSITORY / "docs" / "deploy.md"
GPU_GUIDE = REPOSITORY / "docs" / "gpu.md"
INSTALLATIONS = ("base", "overlays/gpu", "operator", "operator-gpu")
LAYOUTS = (*INSTALLATIONS, "storage", "data-loading")
SERVICES = {"registry": 50051, "inference": 50052, "scoring": 50053, "leaderboard": 8080}
PORTS = {name: "http" if name == "leaderboard" else "grpc" for name in SERVICES}
"""Name of the port of each service."""
METRICS_PORT = 9464
ADDRESS = re.compile(r"(?:dns:///)?(?P<host>[a-z][a-z0-9-]*):(?P<port>\d+)")
SECRETS = {
    (
        "registry-database",
        "url",
    ): "postgresql+psycopg://cxreval:PASSWORD@postgres.example.org:5432/cxreval",
    ("worker-key", "key"): "cxr_KEY",
}
"""The value of every Secret that the guide creates, by the Secret's name and key."""

Object = dict[str, Any]


def tool(name: str) -> str:
    """Returns the path of a program that the test extra installs."""
    path = Path(sys.executable).parent / name
    if not path.is_file():
        missing(f"{name} is not installed (the test extra has it)")
    return str(path)


def fenced(document: Path, language: str) -> list[str]:
    """Returns the code blocks of a language in a document."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


@functools.cache
def commands(document: Path) -> list[str]:
    """Returns the shell commands in the code blocks of a document, one per line."""
    text = "\n".join(fenced(document, "sh")).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines()]


@pytest.fixture(scope="session")
def k8s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `deploy/k8s` with the overlays that an operator writes after the two guides."""
    directory = tmp_path_factory.mktemp("deploy") / "k8s"
    shutil.copytree(DEPLOY / "k8s", directory)
    settings = fenced(DEPLOY_GUIDE, "yaml")
    for name, content in {
        "operator": "".join(settings),
        "operator-gpu": fenced(GPU_GUIDE, "yaml")[0],
    }.items():
        (directory / "overlays" / name).mkdir()
        (directory / "overlays" / name / "kustomization.yaml").write_text(content)
    return directory


@pytest.fixture(scope="session")
def rendered(k8s: Path) -> dict[str, str]:
    """Output of `kubectl kustomize` for every layout."""
    kubectl = tool("kubectl")
    texts = {}
    for layout in LAYOUTS:
        directory = k8s / "overlays" / layout if layout.startswith("operator") else k8s / layout
        done = subprocess.run(
            [kubectl, "kustomize", directory],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr  # kustomize warns of deprecated fields
        texts[layout] = done.stdout
    return texts


@pytest.fixture(scope="session")
def manifests(rendered: dict[str, str]) -> dict[str, list[Object]]:
    yaml = require_module("yaml")
    return {layout: list(yaml.safe_load_all(text)) for layout, text in rendered.items()}


@pytest.fixture(params=INSTALLATIONS)
def installation(
    request: pytest.FixtureRequest, manifests: dict[str, list[Object]]
) -> list[Object]:
    return manifests[request.param]


@pytest.fixture(params=LAYOUTS)
def objects(request: pytest.FixtureRequest, manifests: dict[str, list[Object]]) -> list[Object]:
    return manifests[request.param]


def of_kind(objects: list[Object], *kinds: str) -> dict[str, Object]:
    """Returns the objects of some kinds by name."""
    return {item["metadata"]["name"]: item for item in objects if item["kind"] in kinds}


def pods(objects: list[Object]) -> dict[str, Object]:
    """Returns every pod and pod template by the name of its owner."""
    templates = {
        name: item["spec"]["template"]
        for name, item in of_kind(objects, "Deployment", "Job").items()
    }
    return templates | of_kind(objects, "Pod")


def containers(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Yields the owner's name, the pod and the container of every container."""
    for name, pod in pods(objects).items():
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            yield name, pod, container


def labels(pod: Object) -> dict[str, str]:
    """Returns the labels of a pod."""
    pod_labels: dict[str, str] = pod["metadata"]["labels"]
    return pod_labels


def claims(pod: Object) -> dict[str, bool]:
    """Returns the volume claims that a pod mounts, each with whether it is mounted read-only."""
    volumes = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes", ())
        if "persistentVolumeClaim" in volume
    }
    mounts = [
        mount
        for container in pod["spec"]["containers"]
        for mount in container.get("volumeMounts", ())
    ]
    return {
        claim: all(mount.get("readOnly", False) for mount in mounts if mount["name"] == volume)
        for volume, claim in volumes.items()
    }


def environment(objects: list[Object], container: Object) -> dict[str, str]:
    """Returns a container's environment as the kubelet sets it."""
    maps = of_kind(objects, "ConfigMap")
    values: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        values |= maps[source["configMapRef"]["name"]]["data"]
    for variable in container.get("env", ()):
        values[variable["name"]] = (
            variable["value"] if "value" in variable else _from(variable["valueFrom"], container)
        )
    return values


def _from(source: Object, container: Object) -> str:
    if "resourceFieldRef" in source:
        _, _, resource = source["resourceFieldRef"]["resource"].partition("limits.")
        return str(container["resources"]["limits"][resource])
    return SECRETS[source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]]


# --- schemas and linters --------------------------------------------------------------------------


def test_every_manifest_is_valid_by_the_schemas_of_kubernetes(rendered, tmp_path):
    for layout, text in rendered.items():
        (tmp_path / f"{layout.replace('/', '-')}.yaml").write_text(text)
    command = [
        tool("kubernetes-validate"),
        "--strict",
        "-k",
        KUBERNETES,
        *sorted(tmp_path.iterdir()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_passes_hadolint():
    done = subprocess.run(
        [tool("hadolint"), DOCKERFILE], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- names, ports, selectors ----------------------------------------------------------------------


def test_objects_have_unique_names_and_no_namespace(objects):
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(set(names)) == len(names)
    assert not [
        name for name, item in zip(names, objects, strict=True) if "namespace" in item["metadata"]
    ]


def test_deployments_select_their_own_pods_and_no_others(installation):
    for name, deployment in of_kind(installation, "Deployment").items():
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        assert [
            pod
            for pod, template in pods(installation).items()
            if selector <= labels(template).items()
        ] == [name]


def test_services_select_the_pods_of_one_deployment_and_name_their_ports(installation):
    templates = pods(installation)
    services = of_kind(installation, "Service")
    assert services.keys() == SERVICES.keys()
    for name, service in services.items():
        selector = service["spec"]["selector"].items()
        assert [
            pod for pod, template in templates.items() if selector <= labels(template).items()
        ] == [name]
        (container,) = templates[name]["spec"]["containers"]
        named = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert named == {PORTS[name]: SERVICES[name], "metrics": METRICS_PORT}
        for port in service["spec"]["ports"]:
            # Visitors come to port 80 of the page.
            assert named[port["targetPort"]] == {80: 8080}.get(port["port"], port["port"])


def test_services_with_load_balancing_clients_are_headless(installation):
    headless = {
        name
        for name, item in of_kind(installation, "Service").items()
        if item["spec"].get("clusterIP") == "None"
    }
    assert headless == {"inference", "scoring"}


def test_objects_that_a_pod_refers_to_exist(installation):
    maps, volumes = (
        of_kind(installation, "ConfigMap"),
        of_kind(installation, "PersistentVolumeClaim"),
    )
    for name, pod, container in containers(installation):
        for source in container.get("envFrom", ()):
            assert source["configMapRef"]["name"] in maps, name
        declared = {volume["name"] for volume in pod["spec"].get("volumes", ())}
        assert {mount["name"] for mount in container.get("volumeMounts", ())} == declared, name
        assert claims(pod).keys() <= volumes.keys(), name


def test_secrets_are_only_referred_to_and_the_guide_creates_them(installation):
    assert not of_kind(installation, "Secret")
    references = {
        (
            variable["valueFrom"]["secretKeyRef"]["name"],
            variable["valueFrom"]["secretKeyRef"]["key"],
        )
        for _, _, container in containers(installation)
        for variable in container.get("env", ())
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    matches = [
        re.search(r"create secret generic (\S+) .*--from-literal=(\w+)='(.+)'", line)
        for line in commands(DEPLOY_GUIDE)
    ]
    assert {(match[1], match[2]): match[3] for match in matches if match} == SECRETS
    assert references == SECRETS.keys()


def test_registry_and_migration_read_the_keys_that_the_guide_creates(installation, tmp_path):
    lines = commands(DEPLOY_GUIDE)
    key_commands = [line for line in lines if line.startswith("openssl ")]
    (secret,) = [
        line for line in lines if line.startswith("kubectl create secret generic registry-keys ")
    ]
    files = set(re.findall(r"--from-file=(\S+)", secret))
    if not shutil.which("openssl"):
        missing("openssl, which the guide uses, is not installed")
    subprocess.run(["sh", "-euc", "\n".join(key_commands)], cwd=tmp_path, check=True, timeout=600)
    assert {file.name for file in tmp_path.iterdir()} == files
    mounted = 0
    for _, pod, container in containers(installation):
        variables = environment(installation, container)
        keys = {
            kind: variables.get(f"CXREVAL_REGISTRY_{kind}_KEY") for kind in ("SIGNING", "TOKEN")
        }
        mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", ())}
        secrets = {
            volume["name"]: volume["secret"]["secretName"]
            for volume in pod["spec"].get("volumes", ())
            if "secret" in volume
        }
        if not any(keys.values()):
            assert not secrets
            continue
        assert secrets == {"keys": "registry-keys"}
        for kind, key in keys.items():
            assert Path(str(key)).parent == Path(mounts["keys"])
            {"SIGNING": Signer, "TOKEN": Vault}[kind].from_file(tmp_path / Path(str(key)).name)
        mounted += 1
    assert mounted == 2
    assert {file.name for file in tmp_path.iterdir()} == files


def calls(installation: list[Object]) -> set[tuple[str, str, int]]:
    """Returns each pod with a service and port that its arguments or environment name."""
    triples = set()
    for name, _, container in containers(installation):
        values = [argument.rpartition("=")[2] for argument in container.get("args", ())]
        for value in (*values, *environment(installation, container).values()):
            if match := ADDRESS.fullmatch(value):
                triples.add((name, match["host"], int(match["port"])))
    return triples


def test_every_address_is_a_service_and_its_port(installation):
    services = of_kind(installation, "Service")
    called = calls(installation)
    assert {(caller, host) for caller, host, _ in called} == {
        ("inference", "registry"),
        ("worker", "registry"),
        ("worker", "inference"),
        ("worker", "scoring"),
        ("leaderboard", "registry"),
    }
    for _, host, port in called:
        assert port in {item["port"] for item in services[host]["spec"]["ports"]}


# --- network policies -----------------------------------------------------------------------------


def selects(selector: Object, pod: Object) -> bool:
    """Returns whether a selector matches a pod."""
    has_labels = selector.get("matchLabels", {}).items() <= labels(pod).items()
    return has_labels and all(
        rule["operator"] == "In" and labels(pod).get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", ())
    )


def opens(installation: list[Object], direction: str, pod: Object, peer: Object, port: str) -> bool:
    """Returns whether a policy of `pod` allows traffic with `peer` in the same namespace."""
    side = "from" if direction == "ingress" else "to"
    return any(
        (
            side not in rule
            or any(
                "podSelector" in item and selects(item["podSelector"], peer) for item in rule[side]
            )
        )
        and any(item["port"] == port for item in rule["ports"])
        for policy in of_kind(installation, "NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"], pod)
        for rule in policy["spec"].get(direction, ())
    )


def test_policies_allow_exactly_the_calls_between_pods(installation):
    templates = pods(installation)
    closed = of_kind(installation, "NetworkPolicy")["closed-but-for-dns"]["spec"]
    assert set(closed["policyTypes"]) == {"Ingress", "Egress"}
    assert all(selects(closed["podSelector"], pod) for pod in templates.values())
    allowed = {
        (caller, callee)
        for caller in templates
        for callee in SERVICES
        if caller != callee
        and opens(installation, "egress", templates[caller], templates[callee], PORTS[callee])
        and opens(installation, "ingress", templates[callee], templates[caller], PORTS[callee])
    }
    assert allowed == {(caller, callee) for caller, callee, _ in calls(installation)}


# --- security and robustness ----------------------------------------------------------------------


def test_every_container_has_a_security_context_and_resource_limits(objects):
    for name, pod, container in containers(objects):
        pod_context = pod["spec"]["securityContext"]
        assert pod_context["runAsNonRoot"] is True, name
        ids = [pod_context[field] for field in ("runAsUser", "runAsGroup", "fsGroup")]
        assert ids == [10001] * 3, name
        assert pod_context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["enableServiceLinks"] is False, name


def test_only_scoring_mounts_the_labels(manifests):
    for layout, objects in manifests.items():
        mounted = {name: claims(pod) for name, pod in pods(objects).items()}
        with_labels = {name for name, volumes in mounted.items() if "nih-labels" in volumes}
        with_images = {name for name, volumes in mounted.items() if "nih-images" in volumes}
        if layout == "data-loading":
            assert (with_labels, with_images) == ({"load-labels"}, {"load-images"})
        elif layout != "storage":
            assert (with_labels, with_images) == ({"scoring"}, {"worker"}), layout
            assert mounted["inference"] == {}, layout
            assert mounted["scoring"] == {"nih-labels": True}, layout
            assert mounted["worker"] == {"nih-images": True}, layout


def test_probes_use_the_port_of_every_service_and_the_worker_has_none(installation):
    for name, pod, container in containers(installation):
        probes = {
            key: value.get("grpc") or value["httpGet"]
            for key, value in container.items()
            if key.endswith("Probe")
        }
        if name in SERVICES:
            assert probes.keys() == {"startupProbe", "readinessProbe", "livenessProbe"}, name
            expected = {probe: {"port": SERVICES[name]} for probe in probes}
            if name == "leaderboard":
                expected = {probe: {"path": "/healthz", "port": "http"} for probe in probes}
            if name == "registry":  # a restart repairs no database and no disk
                expected["livenessProbe"]["service"] = LIVE
            assert probes == expected, name
            assert pod["metadata"]["annotations"] == {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(METRICS_PORT),
                "prometheus.io/path": "/metrics",
            }
        else:
            assert not probes, name


def test_several_replicas_need_a_disruption_budget_and_no_single_node_claim(installation):
    budgets = of_kind(installation, "PodDisruptionBudget")
    volumes = of_kind(installation, "PersistentVolumeClaim")
    for name, deployment in of_kind(installation, "Deployment").items():
        template = deployment["spec"]["template"]
        single_node = [
            volumes[claim]
            for claim in claims(template)
            if volumes[claim]["spec"]["accessModes"] == ["ReadWriteOnce"]
        ]
        if deployment["spec"]["replicas"] > 1:
            assert not single_node, name
            assert [
                item for item in budgets.values() if selects(item["spec"]["selector"], template)
            ], name
        elif single_node:
            assert deployment["spec"]["strategy"]["type"] == "Recreate", name


def test_gpu_overlay_changes_image_limit_and_toleration_of_inference_only(manifests):
    plain, gpu = pods(manifests["base"]), pods(manifests["overlays/gpu"])
    assert plain.keys() == gpu.keys()
    assert {name for name in plain if plain[name] != gpu[name]} == {"inference"}
    (container,) = gpu["inference"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"] == "cxreval/inference-gpu:0.1.0"
    assert gpu["inference"]["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


# --- settings and arguments -----------------------------------------------------------------------


@pytest.fixture(scope="session", params=SERVICES)
def service(
    request: pytest.FixtureRequest, manifests: dict[str, list[Object]], tmp_path_factory
) -> tuple[str, Object]:
    """Name and settings of a service, as its program reports them with the files of its image."""
    name = request.param
    directory = tmp_path_factory.mktemp(name)
    for source, destination in copies(name):
        if source.startswith("services"):
            (directory / destination).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copyfile
            copy(REPOSITORY / source, directory / destination)
    (container,) = pods(manifests["base"])[name]["spec"]["containers"]
    command = [sys.executable, *entrypoint(name)[1:], "--check-config"]
    variables = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"} | environment(
        manifests["base"], container
    )
    done = subprocess.run(
        command,
        cwd=directory,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return name, json.loads(done.stdout)


def test_each_program_starts_from_its_image_and_reads_every_variable(service, manifests):
    name, settings = service
    (container,) = pods(manifests["base"])[name]["spec"]["containers"]
    for variable, value in environment(manifests["base"], container).items():
        field = variable.removeprefix(f"CXREVAL_{name.upper()}_").lower()
        if value in SECRETS.values():
            expected = "(set)"  # --check-config does not print secrets
        else:
            expected = (
                value.split(",")
                if isinstance(settings[field], list)
                else type(settings[field])(value)
            )
        assert settings[field] == expected, variable
    assert settings["listen"] == f"0.0.0.0:{SERVICES[name]}"
    assert settings["metrics_listen"] == f"0.0.0.0:{METRICS_PORT}"


def test_grace_period_is_longer_than_the_drain(service, manifests):
    name, settings = service
    assert (
        pods(manifests["base"])[name]["spec"]["terminationGracePeriodSeconds"]
        > settings["drain_seconds"]
    )


def test_each_directory_of_a_service_is_one_of_its_mounts(service, manifests):
    name, settings = service
    (container,) = pods(manifests["base"])[name]["spec"]["containers"]
    mounts = {
        mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]
    }
    written = {value for field, value in settings.items() if field.endswith(("_dir", "_store"))}
    read = {item.partition("=")[2] for item in settings.get("data", ())}
    read |= {
        str(Path(value).parent)
        for field, value in settings.items()
        if field in ("signing_key", "token_key")
    }
    assert mounts == dict.fromkeys(written | {"/tmp"}, False) | dict.fromkeys(read, True)


def test_each_cache_fits_its_volume_and_models_have_space_for_a_download(service, manifests):
    name, settings = service
    if name != "inference":
        return
    volumes = {
        volume["name"]: volume for volume in pods(manifests["base"])[name]["spec"]["volumes"]
    }
    mib = {
        name: 1024 * int(volumes[name]["emptyDir"]["sizeLimit"].removesuffix("Gi"))
        for name in ("models", "images")
    }
    assert mib["models"] * MIB >= settings["model_cache_mib"] * MIB + 2 * MAX_ARTIFACT_BYTES
    assert mib["images"] > settings["image_cache_mib"] > 0


def test_migration_job_runs_the_registry_with_the_registry_settings(manifests):
    templates = pods(manifests["base"])
    (job,), (registry,) = (
        templates["registry-migrate"]["spec"]["containers"],
        templates["registry"]["spec"]["containers"],
    )
    assert job["args"] == ["migrate"]
    assert job["image"] == registry["image"]
    assert (job["envFrom"], job["env"]) == (registry["envFrom"], registry["env"])
    variables = {"PATH": os.environ["PATH"]} | environment(manifests["base"], job)
    command = [sys.executable, *entrypoint("registry")[1:], *job["args"], "--check-config"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


def parsed(arguments: list[str]) -> dict[str, Any]:
    """Returns the parameters of a `cxreval` command line; fails on an unknown command or flag."""
    group: Any = typer.main.get_command(app)
    while hasattr(group, "commands"):
        group, arguments = group.commands[arguments[0]], arguments[1:]
    parameters: dict[str, Any] = group.make_context(group.name, list(arguments)).params
    return parameters


def test_worker_accepts_its_arguments(installation):
    (container,) = pods(installation)["worker"]["spec"]["containers"]
    parameters = parsed([*entrypoint("worker")[1:], *container["args"]])
    assert parameters["registry"] == "registry:50051"
    assert parameters["inference"] == "dns:///inference:50052"
    assert parameters["scoring"] == "dns:///scoring:50053"
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert list(parameters["data"]) == ["nih-chestxray14=/data/nih"]
    assert {item.partition("=")[2] for item in parameters["data"]} < mounts


# --- images ---------------------------------------------------------------------------------------


@functools.cache
def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Returns the base image and the instructions of each stage of the Dockerfile."""
    lines = [
        line
        for line in DOCKERFILE.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    by_name: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            by_name[name] = (base, [])
        elif word:
            by_name[name][1].append((word, rest.strip()))
    return by_name


def instructions(stage: str) -> list[tuple[str, str]]:
    """Returns all instructions of a stage, those of its bases first."""
    base, own = stages()[stage]
    return [*(instructions(base) if base in stages() else []), *own]


def entrypoint(target: str) -> list[str]:
    """Returns the entry point of a stage, as a list of arguments."""
    arguments: list[str] = json.loads(
        next(rest for word, rest in reversed(instructions(target)) if word == "ENTRYPOINT")
    )
    return arguments


def copies(stage: str) -> Iterator[tuple[str, str]]:
    """Yields the paths that a stage copies from the build context, with their destinations."""
    for word, rest in instructions(stage):
        if word == "COPY" and not rest.startswith("--from"):
            *sources, destination = rest.split()
            for source in sources:
                yield source, destination if len(sources) == 1 else f"{destination}{source}"


def test_every_image_of_the_manifests_is_a_target_with_an_entry_point(manifests):
    images = {
        item["image"]
        for layout in ("base", "overlays/gpu")
        for _, _, item in containers(manifests[layout])
    }
    targets = (*SERVICES, "inference-gpu", "worker")
    assert images == {f"cxreval/{target}:{version('cxreval')}" for target in targets}
    for target in targets:
        assert target in stages()
        assert entrypoint(target)[0] in ("python", "cxreval")
    assert entrypoint("inference-gpu") == entrypoint("inference")


def test_operators_overlay_renames_every_image(manifests):
    for layout in ("operator", "operator-gpu"):
        renamed = [
            item["image"]
            for name, _, item in containers(manifests[layout])
            if layout == "operator" or name == "inference"
        ]
        assert all(image.startswith("registry.example.org/cxreval/") for image in renamed), renamed


def test_images_run_as_a_numeric_user_stop_on_sigterm_and_send_no_telemetry():
    for target in (*SERVICES, "inference-gpu", "worker"):
        last = dict(instructions(target))
        assert last["USER"] == "10001:10001"
        assert last["STOPSIGNAL"] == "SIGTERM"
        assert last["VOLUME"] == "/data"
        variables = " ".join(rest for word, rest in instructions(target) if word == "ENV").split()
        assert {"PYTHONDONTWRITEBYTECODE=1", "ORT_DISABLE_TELEMETRY=1", "HOME=/tmp"} <= set(
            variables
        )


def test_gpu_image_has_one_onnxruntime_and_a_library_path_of_its_python_version():
    steps = " ".join(rest for _, rest in stages()["builder-gpu"][1])
    assert steps.index("uninstall --yes onnxruntime ") < steps.index(
        "'onnxruntime-gpu[cuda,cudnn]=="
    )
    assert [
        rest
        for word, rest in instructions("inference-gpu")
        if word == "COPY" and rest.startswith("--from")
    ] == ["--from=builder-gpu /opt/venv /opt/venv"]
    python = re.match(r"python:(\d+\.\d+)", stages()["runtime"][0])
    assert python
    path = next(rest for word, rest in reversed(instructions("inference-gpu")) if word == "ENV")
    assert path.count(f"/opt/venv/lib/python{python[1]}/site-packages/nvidia/") == 2


def test_build_context_has_exactly_the_files_that_are_copied():
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"
    sources = {source for stage in stages() for source, _ in copies(stage)}
    assert all((REPOSITORY / source).exists() for source in sources)
    assert {source.split("/")[0] for source in sources} == allowed
    assert any(fnmatch("services/chassis/__pycache__", rule) for rule in rules)


# --- the guides -----------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", [DEPLOY_GUIDE, GPU_GUIDE], ids=lambda path: path.name)
def test_guides_name_files_targets_and_objects_that_exist(guide, manifests):
    known = {
        (item["kind"].lower(), item["metadata"]["name"])
        for objects in manifests.values()
        for item in objects
    }
    text = " ".join(commands(guide))
    for path in re.findall(r"-[kf] (deploy/\S+)", text):
        assert (REPOSITORY / path).exists() or path == "deploy/k8s/overlays/production", path
    for kind, name in re.findall(r"\b(job|deployment|service|pod)/([a-z-]+)", text):
        assert (kind, name) in known, name
    for name in re.findall(r"exec (?:-i )?([a-z-]+) --", text):
        assert ("pod", name) in known, name
    targets = set(re.findall(r"--target ([a-z-]+)", text)) | set(
        " ".join(re.findall(r"for target in (.*?);", text)).split()
    )
    assert targets
    assert targets <= stages().keys()


def test_cxreval_accepts_the_commands_of_the_guide(tmp_path):
    lines = [line for line in commands(DEPLOY_GUIDE) if line.startswith("cxreval ")]
    assert len(lines) == 4
    for line in lines:
        parsed([str(tmp_path) if word == '"$NIH"' else word for word in line.split()[1:]])


def test_guide_copies_the_right_files_into_each_volume_claim():
    loads = [line for line in commands(DEPLOY_GUIDE) if line.startswith("tar ")]
    files = {
        re.search(r"exec -i (\S+)", line)[1]: re.search(r"-cf - (.*?) \|", line)[1].split()
        for line in loads
    }
    assert files == {
        "load-images": ["images", "test_list.txt"],
        "load-labels": ["Data_Entry_2017_v2020.csv", "test_list.txt"],
    }
