"""The manifests of a worker that runs scripts as Jobs agree with code, guide and base."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cxreval.cli.script_options import IsolationKind
from cxreval.reproduction.isolation.contract import Run
from cxreval.reproduction.isolation.kubernetes import (
    NETWORK_POLICY,
    PodSettings,
    render_job,
    render_network_policy,
)
from services.registry.config import RegistryConfig
from tests.conftest import REPOSITORY, require_module
from tests.contract.test_deploy import (
    DEPLOY,
    DEPLOY_GUIDE,
    KUBERNETES,
    Object,
    claims,
    commands,
    containers,
    entrypoint,
    environment,
    instructions,
    labels,
    of_kind,
    parsed,
    pods,
    selects,
    stages,
    tool,
)

NAMESPACE = "cxreval-scripts"


def rendered(layout: str) -> str:
    return subprocess.run(
        [tool("kubectl"), "kustomize", DEPLOY / "k8s" / layout],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.fixture(scope="module")
def text() -> str:
    return rendered("scripts")


@pytest.fixture(scope="module")
def objects(text: str) -> list[Object]:
    return list(require_module("yaml").safe_load_all(text))


@pytest.fixture
def worker(objects: list[Object]) -> Object:
    return pods(objects)["worker"]


@pytest.fixture
def settings(objects: list[Object], worker: Object) -> dict[str, str]:
    (container,) = worker["spec"]["containers"]
    return environment(objects, container)


def test_every_manifest_is_valid_by_the_schemas_of_kubernetes(text, tmp_path):
    (tmp_path / "scripts.yaml").write_text(text)
    command = [tool("kubernetes-validate"), "--strict", "-k", KUBERNETES, tmp_path / "scripts.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_is_in_a_namespace_of_its_own_with_the_strictest_level(objects):
    (namespace,) = of_kind(objects, "Namespace").values()
    assert namespace["metadata"]["name"] == NAMESPACE
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    places = {item["metadata"].get("namespace") for item in objects if item is not namespace}
    assert places == {NAMESPACE}


def test_the_namespace_has_no_label_and_no_secret_but_the_workers_key(objects):
    assert of_kind(objects, "PersistentVolumeClaim").keys() == {"nih-images", "runs"}
    secrets = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for _, _, container in containers(objects)
        for variable in container.get("env", ())
        if "valueFrom" in variable
    }
    assert secrets == {"worker-key"}
    volumes = pods(objects)["worker"]["spec"]["volumes"]
    assert all(volume.keys() & {"persistentVolumeClaim", "emptyDir"} for volume in volumes)


def test_pods_keep_the_rules_of_the_restricted_level(objects):
    for _, pod, container in containers(objects):
        spec, context = pod["spec"], container["securityContext"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_the_role_allows_the_calls_of_the_code_and_no_others(objects, worker):
    (role,) = of_kind(objects, "Role").values()
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {
        ("batch", "jobs", "create"),
        ("batch", "jobs", "delete"),
        ("", "pods", "list"),
        ("", "pods/log", "get"),
        ("networking.k8s.io", "networkpolicies", "create"),
    }
    (binding,) = of_kind(objects, "RoleBinding").values()
    (account,) = of_kind(objects, "ServiceAccount").values()
    (subject,) = binding["subjects"]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (
        "Role",
        role["metadata"]["name"],
    )
    name = account["metadata"]["name"]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", name)
    assert subject["namespace"] == NAMESPACE
    assert worker["spec"]["serviceAccountName"] == name
    assert worker["spec"]["automountServiceAccountToken"] is True
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")


def test_no_pod_but_the_worker_has_a_network(objects, worker):
    policies = of_kind(objects, "NetworkPolicy")
    closed = policies.pop("closed")["spec"]
    assert closed["podSelector"] == {}
    assert set(closed["policyTypes"]) == {"Ingress", "Egress"}
    assert not closed.keys() & {"ingress", "egress"}
    script = {"metadata": render_network_policy()["metadata"]}
    assert NETWORK_POLICY not in policies
    for policy in policies.values():
        assert selects(policy["spec"]["podSelector"], worker)
        assert not selects(policy["spec"]["podSelector"], script)
        assert policy["spec"]["policyTypes"] == ["Egress"]


def test_inference_and_scoring_take_calls_of_the_worker(worker):
    base = list(require_module("yaml").safe_load_all(rendered("base")))
    for name in ("inference", "scoring"):
        (rule,) = of_kind(base, "NetworkPolicy")[name]["spec"]["ingress"]
        (peer,) = [peer for peer in rule["from"] if "namespaceSelector" in peer]
        assert peer["namespaceSelector"]["matchLabels"] == {
            "kubernetes.io/metadata.name": NAMESPACE
        }
        assert selects(peer["podSelector"], worker)
    services = of_kind(base, "Service")
    (container,) = worker["spec"]["containers"]
    called = re.findall(r"=(?:dns:///)?(\w+)\.cxreval:(\d+)", " ".join(container["args"]))
    assert [name for name, _ in called] == ["registry", "inference", "scoring"]
    for name, port in called:
        assert int(port) in {item["port"] for item in services[name]["spec"]["ports"]}


def test_worker_reads_every_variable_and_its_paths_are_on_the_volume(
    worker, settings, monkeypatch, tmp_path
):
    for name, value in settings.items():
        if name.startswith("CXREVAL_"):
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("CXREVAL_CLIENT_KEY")
    (container,) = worker["spec"]["containers"]
    parameters = parsed([*entrypoint("worker")[1:], *container["args"]])
    stated = {
        name.removeprefix("CXREVAL_WORKER_").lower(): value
        for name, value in settings.items()
        if name.startswith("CXREVAL_WORKER_")
    }
    assert {name: str(parameters[name]) for name in stated} == stated
    assert parameters["script_isolation"] is IsolationKind.KUBERNETES
    claim, _, volume = parameters["script_claim"].partition("=")
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    sources = {item["name"]: item for item in worker["spec"]["volumes"]}
    assert sources[mounts[volume]]["persistentVolumeClaim"] == {"claimName": claim}
    for path in (parameters["scripts"], Path(settings["TMPDIR"])):
        assert Path(volume) in path.parents
    (clean,) = worker["spec"]["initContainers"]
    assert settings["TMPDIR"] in clean["args"][0]
    assert claims(worker)["nih-images"] is True


def test_pods_of_scripts_mount_the_claim_of_the_runs_alone(objects, settings, tmp_path):
    for name in ("source", "images"):
        (tmp_path / "run" / name).mkdir(parents=True)
    for name in ("source/run.py", "list.txt"):
        (tmp_path / "run" / name).write_text("")
    run = Run(
        source=tmp_path / "run/source",
        entry_point="run.py",
        environment=None,
        interpreter=Path("/usr/bin/python3"),
        images=tmp_path / "run/images",
        list_file=tmp_path / "run/list.txt",
        seed=1,
    )
    claim = settings["CXREVAL_WORKER_SCRIPT_CLAIM"].partition("=")[0]
    image = settings["CXREVAL_WORKER_SCRIPT_IMAGE"]
    job = render_job(run, "one", PodSettings(image, "gvisor", claim, tmp_path))
    pod = job["spec"]["template"]
    assert claims(pod) == {"runs": True}
    assert pod["spec"]["automountServiceAccountToken"] is False
    (deployment,) = of_kind(objects, "Deployment").values()
    assert deployment["spec"]["selector"]["matchLabels"].items() - labels(pod).items()


def test_image_of_scripts_has_the_python_of_the_worker(settings):
    assert settings["CXREVAL_WORKER_SCRIPT_IMAGE"] == stages()["runtime"][0]
    installs = " ".join(rest for _, rest in instructions("builder"))
    assert re.search(r"'\.\[[a-z0-9,]*\breproduction\b", installs)


# --- the guide ------------------------------------------------------------------------------------


def test_guide_creates_the_workers_key_after_the_namespace_and_waits_for_the_worker():
    lines = [line for line in commands(DEPLOY_GUIDE) if NAMESPACE in line or "k8s/scripts" in line]
    apply, secret, status = lines
    assert apply == "kubectl apply -k deploy/k8s/scripts"
    assert f"--namespace={NAMESPACE}" in secret
    assert "secret generic worker-key" in secret
    assert f"--namespace={NAMESPACE} deployment/worker" in status


def test_guide_lists_each_option_of_scripts_and_the_schedule_of_replays():
    guide = DEPLOY_GUIDE.read_text(encoding="utf-8")
    source = (REPOSITORY / "src/cxreval/cli/script_options.py").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(--scripts?[a-z-]*)` \| `([A-Z_]+)` ", guide, re.MULTILINE)
    options = dict.fromkeys(re.findall(r'"(--scripts?[a-z-]*)"', source))
    assert [option for option, _ in listed] == list(options)
    for option, variable in listed:
        assert variable == f"CXREVAL_WORKER_{option[2:].replace('-', '_').upper()}"
    config = RegistryConfig.__dataclass_fields__
    replays = [name for name in config if name.startswith("replay_")]
    assert replays
    for name in replays:
        assert f"| `{name}` | {config[name].default:g} |" in guide


def test_restart_of_the_worker_ends_before_the_next_one_cleans(objects):
    (deployment,) = of_kind(objects, "Deployment").values()
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1
