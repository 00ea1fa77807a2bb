"""Every rule of a manifest: what breaks it, with which reason and field."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import (
    CommitNotFrozen,
    CxrevalError,
    MalformedField,
    MissingField,
    OutputsIncomplete,
    UnknownFinding,
    UnknownMetric,
    UnknownProfile,
)
from cxreval.manifest.model import (
    MAX_CLAIMS,
    MAX_DEPENDENCIES,
    MAX_OUTPUTS,
    CheckpointFormat,
    ClaimedMetric,
    Endpoint,
    Ensemble,
    Environment,
    Kind,
    Manifest,
    Reproduction,
    SourceKind,
    SubmittedFile,
)
from cxreval.manifest.rules import problems, refusal
from cxreval.preprocessing import (
    PRESETS,
    Activation,
    Crop,
    CropKind,
    Equalize,
    EqualizeKind,
    Layout,
    Outputs,
    Preprocessing,
    Resize,
    ResizeTo,
)
from cxreval.wire.status import from_details, to_status
from services.registry.convert import submissions
from tests.support.registry import COMMIT, manifest_message

TODAY = date(2026, 3, 15)
NIH = load_spec("nih-chestxray14")
GOOD = submissions.manifest(manifest_message(b"artifact"))
HOW = Reproduction("https://example.org/repository", COMMIT, 7)


PREDICTIONS = replace(
    GOOD,
    kind=Kind.PREDICTIONS,
    source_kind=SourceKind.PREDICTIONS,
    format=None,
    preprocessing_profile="",
    output_names=(),
)
SERVER = Endpoint("models.example.org:443", tls=True, model_name="model", requests_per_second=20.0)
ENDPOINT = replace(
    GOOD,
    kind=Kind.ENDPOINT,
    source_kind=SourceKind.ENDPOINT,
    format=None,
    endpoint=SERVER,
    artifact_sha256="",
)
CLAIM = replace(
    PREDICTIONS,
    kind=Kind.CLAIM,
    source_kind=SourceKind.RESEARCH_PAPER,
    artifact_sha256="",
    reproduction=None,
    environment=None,
)
STATE_DICT = replace(
    GOOD,
    format=CheckpointFormat.PYTORCH_STATE_DICT,
    architecture="densenet121",
    preprocessing_profile="imagenet-224",
)
TORCHSCRIPT = replace(GOOD, format=CheckpointFormat.TORCHSCRIPT)
FILE = SubmittedFile("model.onnx", "a" * 64)
SHORT_SIDE = Resize(ResizeTo.SHORT_SIDE, (256,))
XRV = replace(
    STATE_DICT, architecture="resnet50-res512-all", preprocessing_profile="xrv-512", output_names=()
)


def check_manifest(manifest: Manifest) -> None:
    found = problems(manifest, TODAY, NIH)
    if found:
        raise refusal(found)


def server(**changes: object) -> Manifest:
    return replace(ENDPOINT, endpoint=replace(SERVER, **changes))


def claim(*values: tuple[str, str, float]) -> Manifest:
    return replace(
        GOOD,
        claimed_metrics=tuple(
            ClaimedMetric(metric, value, finding) for metric, finding, value in values
        ),
    )


def outputs(*names: str) -> Manifest:
    return replace(GOOD, output_names=names)


def steps(**changes: object) -> Manifest:
    return replace(GOOD, preprocessing_profile="", preprocessing=Preprocessing(**changes))


def files(*names: str, ensemble: Ensemble | None = None) -> Manifest:
    given = tuple(SubmittedFile(name, "a" * 64) for name in names)
    return replace(GOOD, files=given, ensemble=ensemble)


def dependencies(*names: str) -> Manifest:
    return replace(GOOD, environment=Environment("3.11", names))


BROKEN: list[tuple[Manifest, type[CxrevalError], str]] = [
    (replace(GOOD, model=""), MissingField, "manifest.model"),
    (replace(GOOD, model="m" * 101), MalformedField, "manifest.model"),
    (replace(GOOD, model="two\nlines"), MalformedField, "manifest.model"),
    (replace(GOOD, model=" padded "), MalformedField, "manifest.model"),
    (replace(GOOD, model="right-to-left \u202e override"), MalformedField, "manifest.model"),
    (replace(GOOD, organisation=""), MissingField, "manifest.organisation"),
    (replace(GOOD, organisation="o" * 101), MalformedField, "manifest.organisation"),
    (replace(GOOD, source_url="http://example.org"), MalformedField, "manifest.source_url"),
    (replace(GOOD, contact=""), MissingField, "manifest.contact"),
    (replace(GOOD, contact="somebody"), MalformedField, "manifest.contact"),
    (replace(GOOD, contact="some body@example.org"), MalformedField, "manifest.contact"),
    (replace(GOOD, contact="somebody@localhost"), MalformedField, "manifest.contact"),
    (replace(GOOD, reproduction=None), MissingField, "manifest.reproduction"),
    (replace(GOOD, reproduction=Reproduction("", COMMIT, 7)),
     MissingField, "manifest.reproduction.repository"),
    (
        replace(GOOD, reproduction=replace(HOW, repository="git@example.org:repository")),
        MalformedField,
        "manifest.reproduction.repository",
    ),
    (
        replace(GOOD, reproduction=replace(HOW, repository="https://name:password@example.org/")),
        MalformedField,
        "manifest.reproduction.repository",
    ),
    (
        replace(GOOD, reproduction=replace(HOW, repository="https://example.org:port/")),
        MalformedField,
        "manifest.reproduction.repository",
    ),
    (replace(GOOD, reproduction=replace(HOW, commit="")),
     MissingField, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit="main")),
     CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit="v1.0")),
     CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit=COMMIT[:7])),
     CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit=COMMIT.upper())),
     CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, commit=f"{COMMIT}\n")),
     CommitNotFrozen, "manifest.reproduction.commit"),
    (replace(GOOD, reproduction=replace(HOW, script="s" * 1001)),
     MalformedField, "manifest.reproduction.script"),
    (replace(GOOD, environment=Environment("")),
     MissingField, "manifest.environment.python_version"),
    (replace(GOOD, environment=Environment("latest")),
     MalformedField, "manifest.environment.python_version"),
    (dependencies("torch>=2"), MalformedField, "manifest.environment.dependencies[0]"),
    (dependencies("torch==2.13.0", "numpy"),
     MalformedField, "manifest.environment.dependencies[1]"),
    (dependencies("torch==2.*"), MalformedField, "manifest.environment.dependencies[0]"),
    (dependencies(*["a==1"] * (MAX_DEPENDENCIES + 1)),
     MalformedField, "manifest.environment.dependencies"),
    (replace(GOOD, preprocessing_profile=""), MissingField, "manifest.preprocessing"),
    (replace(GOOD, preprocessing=Preprocessing()), MalformedField, "manifest.preprocessing"),
    (steps(channels=4), MalformedField, "manifest.preprocessing.channels"),
    (steps(value_range=()), MissingField, "manifest.preprocessing.value_range"),
    (steps(value_range=(0.0, 1.0, 2.0)), MalformedField, "manifest.preprocessing.value_range"),
    (steps(mean=(0.0, float("nan"))), MalformedField, "manifest.preprocessing.mean[1]"),
    (steps(std=(float("inf"),)), MalformedField, "manifest.preprocessing.std[0]"),
    (steps(std=(0.0,)), MalformedField, "manifest.preprocessing.std[0]"),
    (steps(layout=None), MissingField, "manifest.preprocessing.layout"),
    (steps(tensor="two\nlines"), MalformedField, "manifest.preprocessing.tensor"),
    (steps(resize=replace(SHORT_SIDE, size=(-1,))),
     MalformedField, "manifest.preprocessing.resize.size[0]"),
    (steps(resize=replace(SHORT_SIDE, size=(15,))),
     MalformedField, "manifest.preprocessing.resize.size[0]"),
    (steps(resize=replace(SHORT_SIDE, size=(2049,))),
     MalformedField, "manifest.preprocessing.resize.size[0]"),
    (steps(resize=replace(SHORT_SIDE, size=(224,) * 3)),
     MalformedField, "manifest.preprocessing.resize.size"),
    (steps(resize=replace(SHORT_SIDE, interpolation=None)),
     MissingField, "manifest.preprocessing.resize.interpolation"),
    (steps(equalize=Equalize(EqualizeKind.CLAHE, -1.0, 8)),
     MalformedField, "manifest.preprocessing.equalize.clip"),
    (steps(equalize=Equalize(EqualizeKind.CLAHE, 2.0, 65)),
     MalformedField, "manifest.preprocessing.equalize.tiles"),
    (replace(GOOD, outputs=Outputs("o" * 201)), MalformedField, "manifest.outputs.tensor"),
    (replace(GOOD, outputs=Outputs(activation=None)), MissingField, "manifest.outputs.activation"),
    (files("weights.bin"), MalformedField, "manifest.files"),
    (files("a.onnx", "b.ONNX"), MissingField, "manifest.ensemble"),
    (files("a.onnx", "a.data", ensemble=Ensemble.MEAN), MalformedField, "manifest.ensemble"),
    (files(ensemble=Ensemble.MEAN), MalformedField, "manifest.ensemble"),
    (files("a.onnx", "w.bin", "W.bin"), MalformedField, "manifest.files[2].name"),
    (files(*(f"{number}.onnx" for number in range(10_000)), ensemble=Ensemble.MEAN),
     MalformedField, "manifest.files"),
    (replace(GOOD, files=(SubmittedFile("a.onnx"),)), MissingField, "manifest.files[0].sha256"),
    (replace(GOOD, files=(SubmittedFile("a.onnx", "A" * 64),)),
     MalformedField, "manifest.files[0].sha256"),
    *(
        (files("a.onnx", name), MalformedField if name else MissingField, "manifest.files[1].name")
        for name in (
            "", ".", "..", "../a.bin", "/etc/passwd", "a/b.bin", "a\\b.bin", "C:a.bin", ".hidden",
            "-rf", "~", "a b.bin", "a.bin\n", "a\0.bin", "ä.bin", "a\u202e.bin", "\uff41.bin", "a.",
            "CON", "nul.onnx", "Com1.data", "lpt9", "aux.x.y", "a" * 101, "file:a.bin",
        )
    ),
    (replace(GOOD, preprocessing_profile="xrv-999"),
     UnknownProfile, "manifest.preprocessing_profile"),
    (outputs("Herniia", *FINDINGS[:-1]), UnknownFinding, "manifest.output_names[0]"),
    (outputs("Lump", "", "No Finding"), OutputsIncomplete, "manifest.output_names"),
    (outputs(*FINDINGS, "o" * 101), MalformedField, "manifest.output_names[14]"),
    (outputs(*FINDINGS, "two\nlines"), MalformedField, "manifest.output_names[14]"),
    (outputs(*FINDINGS, "Mass"), OutputsIncomplete, "manifest.output_names"),
    (outputs(), MissingField, "manifest.output_names"),
    (outputs(*FINDINGS, *[""] * MAX_OUTPUTS), MalformedField, "manifest.output_names"),
    (claim(("accuracy", "", 0.5)), UnknownMetric, "manifest.claimed_metrics[0].metric"),
    (claim(("auroc", "", 0.5), ("auroc", "Fracture", 0.5)),
     UnknownFinding, "manifest.claimed_metrics[1].finding"),
    (claim(("auroc", "", 84.1)), MalformedField, "manifest.claimed_metrics[0].value"),
    (claim(("auroc", "", float("nan"))), MalformedField, "manifest.claimed_metrics[0].value"),
    (claim(("auroc", "", float("inf"))), MalformedField, "manifest.claimed_metrics[0].value"),
    (claim(("auroc", "Mass", 0.5), ("auroc", "Mass", 0.6)),
     MalformedField, "manifest.claimed_metrics[1]"),
    (replace(GOOD, artifact_sha256=""), MissingField, "manifest.artifact_sha256"),
    (replace(GOOD, artifact_sha256="A" * 64), MalformedField, "manifest.artifact_sha256"),
    (replace(GOOD, submitted_date="Dec 2025"), MalformedField, "manifest.submitted_date"),
    (replace(GOOD, submitted_date="2025-02-30"), MalformedField, "manifest.submitted_date"),
    (replace(GOOD, submitted_date="2026-03-16"), MalformedField, "manifest.submitted_date"),
    (replace(GOOD, submitted_date="2026-04"), MalformedField, "manifest.submitted_date"),
    (replace(GOOD, kind=None), MissingField, "manifest.kind"),
    (replace(GOOD, format=None), MissingField, "manifest.format"),
    (replace(GOOD, architecture="densenet121"), MalformedField, "manifest.architecture"),
    (replace(GOOD, endpoint=SERVER), MalformedField, "manifest.endpoint"),
    (replace(GOOD, source_kind=SourceKind.ENDPOINT), MalformedField, "manifest.source_kind"),
    (replace(GOOD, environment=None), MissingField, "manifest.environment"),
    (claim(*[("auroc", "", 0.5)] * (MAX_CLAIMS + 1)), MalformedField, "manifest.claimed_metrics"),
    (replace(STATE_DICT, architecture=""), MissingField, "manifest.architecture"),
    (replace(STATE_DICT, architecture="vgg16"), MalformedField, "manifest.architecture"),
    *(
        (replace(STATE_DICT, architecture=name), MalformedField, "manifest.architecture")
        for name in (
            "densenet121 ", "ResNet50", "timm/", "timm/hf-hub:a/b", "timm/hf_hub:a", "timm/../a",
            "timm/a/b", "timm/a\n", "timm/a.b.c", "timm/" + "a" * 61, "torchvision/",
            "torchvision/models.resnet18", "torchvision/a;b", "monai/DenseNet", "monai/UNet",
            "monai/densenet121", "monai/DenseNet1210", "densenet121|resnet50",
        )
    ),
    (replace(STATE_DICT, architecture="timm/resnet18", output_names=()),
     MissingField, "manifest.output_names"),
    (replace(XRV, preprocessing_profile="xrv-224"),
     MalformedField, "manifest.preprocessing_profile"),
    (replace(XRV, preprocessing_profile="", preprocessing=PRESETS["xrv-224"]),
     MalformedField, "manifest.preprocessing"),
    (replace(STATE_DICT, files=(FILE,)), MalformedField, "manifest.files"),
    (replace(STATE_DICT, ensemble=Ensemble.MEAN), MalformedField, "manifest.ensemble"),
    (replace(TORCHSCRIPT, preprocessing_profile=""), MissingField, "manifest.preprocessing"),
    (replace(TORCHSCRIPT, output_names=()), MissingField, "manifest.output_names"),
    (replace(TORCHSCRIPT, architecture="resnet50"), MalformedField, "manifest.architecture"),
    (replace(TORCHSCRIPT, files=(FILE,)), MalformedField, "manifest.files"),
    (replace(ENDPOINT, files=(FILE,)), MalformedField, "manifest.files"),
    (replace(ENDPOINT, ensemble=Ensemble.MEAN), MalformedField, "manifest.ensemble"),
    (replace(ENDPOINT, preprocessing=Preprocessing()), MalformedField, "manifest.preprocessing"),
    *(
        (replace(kind, **given), MalformedField, f"manifest.{next(iter(given))}")
        for kind in (PREDICTIONS, CLAIM)
        for given in (
            {"preprocessing": Preprocessing()}, {"outputs": Outputs()}, {"files": (FILE,)},
            {"ensemble": Ensemble.MEAN},
        )
    ),
    (replace(STATE_DICT, output_names=()), MissingField, "manifest.output_names"),
    (replace(XRV, output_names=FINDINGS), MalformedField, "manifest.output_names"),
    (replace(ENDPOINT, endpoint=None), MissingField, "manifest.endpoint"),
    (replace(ENDPOINT, artifact_sha256="a" * 64), MalformedField, "manifest.artifact_sha256"),
    (replace(ENDPOINT, output_names=()), MissingField, "manifest.output_names"),
    *(
        (server(address=address), MalformedField if address else MissingField,
         "manifest.endpoint.address")
        for address in (
            "", "host", "host:", "host:0", "host:65536", "host:0443", "host:80:90",
            "https://host:443", "host:443/path", "user@host:443", "ho st:443", "host:443\n",
            "-host:443", "[::1]", "unix:/run/socket", "h" * 64 + ":1",
        )
    ),
    (server(model_name=""), MissingField, "manifest.endpoint.model_name"),
    (server(requests_per_second=0.0), MalformedField, "manifest.endpoint.requests_per_second"),
    (server(requests_per_second=float("nan")),
     MalformedField, "manifest.endpoint.requests_per_second"),
    (replace(PREDICTIONS, output_names=FINDINGS), MalformedField, "manifest.output_names"),
    (replace(PREDICTIONS, preprocessing_profile="xrv-224"),
     MalformedField, "manifest.preprocessing_profile"),
    (replace(PREDICTIONS, artifact_sha256=""), MissingField, "manifest.artifact_sha256"),
    (replace(PREDICTIONS, reproduction=None), MissingField, "manifest.reproduction"),
    (replace(CLAIM, source_url=""), MissingField, "manifest.source_url"),
    (replace(CLAIM, claimed_metrics=()), MissingField, "manifest.claimed_metrics"),
    (replace(CLAIM, claimed_metrics=(ClaimedMetric("auroc", 0.5, "Mass"),)),
     MissingField, "manifest.claimed_metrics"),
    (replace(CLAIM, source_kind=SourceKind.CHECKPOINT), MalformedField, "manifest.source_kind"),
    (replace(CLAIM, artifact_sha256="a" * 64), MalformedField, "manifest.artifact_sha256"),
]  # fmt: skip


@pytest.mark.parametrize(("manifest", "kind", "field"), BROKEN)
def test_broken_rule_is_named_with_its_field(
    manifest: Manifest, kind: type[CxrevalError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        check_manifest(manifest)
    assert type(caught.value) is kind
    assert caught.value.metadata["field"] == field
    assert field in caught.value.message
    assert caught.value.metadata["expected"]


@pytest.mark.parametrize(
    "manifest",
    [
        GOOD,
        STATE_DICT,
        XRV,
        ENDPOINT,
        server(address="[2001:db8::1]:8001", tls=False),
        server(address="localhost:1", requests_per_second=0.1),
        replace(ENDPOINT, preprocessing_profile=""),
        PREDICTIONS,
        CLAIM,
        replace(CLAIM, reproduction=HOW, environment=Environment("3.11")),
        replace(
            GOOD, model="Modèle 胸部 X線", source_url="", claimed_metrics=(), submitted_date=""
        ),
        replace(GOOD, submitted_date="2026-03"),
        replace(GOOD, submitted_date=TODAY.isoformat()),
        replace(GOOD, source_kind=SourceKind.MODEL_CARD, environment=Environment("3.12.0rc1")),
        dependencies(
            "torch==2.13.0+cpu", "uvicorn[standard]==0.30", "a==1!2.0.post1", "zope.interface==7.0"
        ),
        outputs("", *reversed(FINDINGS), "", ""),
        outputs(*FINDINGS, "Fracture", "No Finding", "No Finding", "mass"),
        outputs("No Finding", "Hernia"),
        steps(),
        steps(resize=SHORT_SIDE, crop=Crop(CropKind.TEN, (224, 200))),
        steps(equalize=Equalize(EqualizeKind.CLAHE, 2.0, 8), layout=Layout.NHWC, tensor="image"),
        replace(ENDPOINT, preprocessing_profile="", preprocessing=Preprocessing()),
        replace(ENDPOINT, outputs=Outputs(activation=Activation.SIGMOID)),
        replace(GOOD, outputs=Outputs("logits", Activation.SOFTMAX_POSITIVE)),
        files("model.onnx"),
        files("model.onnx", "model.onnx.data", "onnx__MatMul_123", "console.bin", "com10", "a..b"),
        files("a.onnx", "b.onnx", "a.data", ensemble=Ensemble.MEAN),
        TORCHSCRIPT,
        replace(TORCHSCRIPT, format=CheckpointFormat.TORCH_EXPORT),
        *(
            replace(STATE_DICT, architecture=name)
            for name in (
                "resnet50",
                "timm/efficientnet_b0",
                "timm/vit_base_patch16_clip_224.laion2b",
                "torchvision/convnext_tiny",
                "monai/DenseNet264",
            )
        ),
        *(
            replace(STATE_DICT, architecture=name, **given, **how)
            for name, given in (
                ("densenet121", {}),
                ("resnet50", {}),
                ("chexnet", {"output_names": ()}),
            )
            for how in (
                {"preprocessing_profile": "xrv-512"},
                {"preprocessing_profile": "", "preprocessing": Preprocessing(channels=1)},
            )
        ),
        replace(XRV, preprocessing_profile="", preprocessing=PRESETS["xrv-512"]),
        claim(("auroc", "", 0.0), ("auroc", "Hernia", 1.0)),
    ],
)
def test_manifest_without_fault_is_accepted(manifest: Manifest) -> None:
    check_manifest(manifest)


def named(manifest: Manifest) -> list[tuple[str, str]]:
    return [
        (error.metadata["field"].removeprefix("manifest."), error.reason)
        for error in problems(manifest, TODAY, NIH)
    ]


def test_every_mistake_in_one_list_is_found_at_once() -> None:
    assert named(
        claim(
            ("f1", "", 3), ("auroc", "Fracture", -1), ("auroc", "Mass", 0.5), ("auroc", "Mass", 0.6)
        )
    ) == [
        ("claimed_metrics[0].value", "MALFORMED_FIELD"),
        ("claimed_metrics[1].value", "MALFORMED_FIELD"),
        ("claimed_metrics[0].metric", "UNKNOWN_METRIC"),
        ("claimed_metrics[1].finding", "UNKNOWN_FINDING"),
        ("claimed_metrics[3]", "MALFORMED_FIELD"),
    ]
    mean_missing = replace(CLAIM, claimed_metrics=(ClaimedMetric("auroc", 3, "Mass"),))
    assert named(mean_missing) == [
        ("claimed_metrics[0].value", "MALFORMED_FIELD"), ("claimed_metrics", "MISSING_FIELD"),
    ]  # fmt: skip
    assert named(outputs("atelectasis", *FINDINGS[1:], "Mass")) == [
        ("output_names[0]", "UNKNOWN_FINDING"), ("output_names", "OUTPUTS_INCOMPLETE"),
    ]  # fmt: skip


def test_a_field_is_named_once_even_if_two_rules_ask_for_it() -> None:
    assert named(claim(("", "", 0.5))) == [("claimed_metrics[0].metric", "MISSING_FIELD")]
    assert named(claim(*[("f1", "", 3.0)] * (MAX_CLAIMS + 1))) == [
        ("claimed_metrics", "MALFORMED_FIELD")
    ]


def test_commit_refusal_says_that_branches_move() -> None:
    with pytest.raises(CommitNotFrozen, match="a branch or tag can move"):
        check_manifest(replace(GOOD, reproduction=replace(HOW, commit="main")))


@pytest.mark.parametrize(
    ("spelling", "finding"),
    [
        ("Pleural Thickening", "Pleural_Thickening"),
        ("pleural-thickening", "Pleural_Thickening"),
        ("PLEURALTHICKENING", "Pleural_Thickening"),
        ("Pleural_Thickenning", "Pleural_Thickening"),
        ("Pnuemonia", "Pneumonia"),
        ("Cardiomegalie", "Cardiomegaly"),
        ("Nodules", "Nodule"),
        ("MASS", "Mass"),
    ],
)
def test_other_spelling_of_a_missing_finding_is_refused_with_the_right_one(
    spelling: str, finding: str
) -> None:
    others = [name for name in FINDINGS if name != finding]
    with pytest.raises(UnknownFinding) as caught:
        check_manifest(outputs(*others, spelling))
    assert caught.value.metadata["field"] == "manifest.output_names[13]"
    assert caught.value.metadata["expected"] == f"'{finding}', or '' for a column to ignore"
    check_manifest(outputs(*FINDINGS, spelling))  # a finding that is there is not meant


OTHERS = (
    "No Finding", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
    "Support Devices", "Pleural Effusion", "Pleural Other", "Airspace Opacity", "Calcification",
    "Nodule/Mass", "ILD", "Other lesion", "Aortic enlargement", "Lung cavity", "Tuberculosis",
)  # fmt: skip


@given(st.lists(st.sampled_from(FINDINGS), min_size=1, unique=True), st.permutations(OTHERS))
def test_names_of_other_data_sets_are_ignored_whatever_is_missing(
    findings: list[str], others: list[str]
) -> None:
    check_manifest(outputs(*others, *findings))


def test_among_too_many_names_only_case_and_separators_are_compared() -> None:
    """Each comparison takes up to 0.1 ms: 1,000 names with 200 findings took 15 s."""
    spec = replace(NIH, findings=("Mass", *(f"finding_{i:03}_{i**9:x}" for i in range(199))))
    wrong = [f"{name}{name[-1]}" for name in spec.findings[1:]]
    few = problems(outputs("Mass", *wrong[:20]), TODAY, spec)
    assert [error.reason for error in few] == ["UNKNOWN_FINDING"] * 20
    many = problems(outputs("Mass", *wrong, spec.findings[7].upper()), TODAY, spec)
    assert [error.metadata["expected"] for error in many] == [
        f"{spec.findings[7]!r}, or '' for a column to ignore"
    ]


def test_unknown_preset_lists_the_known_ones_and_the_alternative() -> None:
    known = "imagenet-224, imagenet-224-tencrop, raw, xrv-224, xrv-512, or steps of your own"
    with pytest.raises(UnknownProfile, match=known):
        check_manifest(replace(GOOD, preprocessing_profile="xrv-1024"))


@given(st.lists(st.sampled_from((*FINDINGS, "", "Lump")), min_size=1, max_size=30))
def test_outputs_are_accepted_exactly_when_a_finding_is_there_and_none_twice(
    names: list[str],
) -> None:
    counts = [names.count(finding) for finding in FINDINGS]
    try:
        check_manifest(outputs(*names))
    except OutputsIncomplete:
        assert max(counts) != 1
    else:
        assert max(counts) == 1


@given(st.permutations(FINDINGS), st.integers(0, 14), st.integers(0, 5))
def test_any_order_of_the_findings_with_ignored_columns_is_accepted(
    names: list[str], at: int, ignored: int
) -> None:
    check_manifest(outputs(*names[:at], *[""] * ignored, *names[at:]))


@given(st.text(max_size=60))
def test_commit_is_accepted_exactly_when_it_is_40_lower_case_hex(commit: str) -> None:
    frozen = len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    manifest = replace(GOOD, reproduction=replace(HOW, commit=commit))
    if frozen:
        check_manifest(manifest)
    else:
        with pytest.raises((CommitNotFrozen, MissingField)):
            check_manifest(manifest)


@given(st.dates(date(1990, 1, 1), TODAY + timedelta(days=4000)))
def test_date_is_accepted_exactly_when_it_is_not_in_the_future(submitted: date) -> None:
    manifest = replace(GOOD, submitted_date=submitted.isoformat())
    if submitted <= TODAY:
        check_manifest(manifest)
    else:
        with pytest.raises(MalformedField):
            check_manifest(manifest)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_claim_is_accepted_exactly_when_it_is_a_share(value: float) -> None:
    if 0 <= value <= 1:
        check_manifest(claim(("auroc", "", value)))
    else:
        with pytest.raises(MalformedField):
            check_manifest(claim(("auroc", "", value)))


TEXT = st.text(max_size=300) | st.text("abc@./:=-1", max_size=300)


@given(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
def test_any_text_is_accepted_or_refused_by_name_with_details_that_fit_into_metadata(
    model: str, url: str, contact: str, commit: str, dependency: str, submitted: str
) -> None:
    manifest = replace(
        GOOD,
        model=model,
        source_url=url,
        contact=contact,
        reproduction=Reproduction(url, commit, 7),
        environment=Environment("3.11", (dependency,)),
        submitted_date=submitted,
    )
    found = problems(manifest, TODAY, NIH)
    details = to_status(refusal(found))[2] if found else b""
    assert len(details) < 4000


def broken_everywhere() -> Manifest:
    return replace(
        GOOD,
        model="",
        contact="nobody",
        reproduction=Reproduction("ftp://example.org", "main", 7),
        environment=Environment("latest", ("numpy", "torch==2.13.0", "scipy>1")),
        preprocessing_profile="xrv-999",
        output_names=(*FINDINGS[1:], "Atelectases", "Mass"),
        claimed_metrics=(ClaimedMetric("f1", 2.0, "Masses"),),
        submitted_date="2999-01-01",
    )


def test_every_mistake_is_found_at_once_in_the_order_of_the_fields() -> None:
    errors = problems(broken_everywhere(), TODAY, NIH)
    assert [error.metadata["field"].removeprefix("manifest.") for error in errors] == [
        "model",
        "contact",
        "preprocessing_profile",
        "output_names[13]",
        "output_names",
        "reproduction.repository",
        "reproduction.commit",
        "environment.python_version",
        "environment.dependencies[0]",
        "environment.dependencies[2]",
        "claimed_metrics[0].value",
        "claimed_metrics[0].metric",
        "claimed_metrics[0].finding",
        "submitted_date",
    ]


def test_all_mistakes_travel_with_the_first_and_what_does_not_fit_is_counted() -> None:
    found = problems(broken_everywhere(), TODAY, NIH)
    received = from_details(to_status(refusal(found))[2])
    assert received
    assert (received.reason, received.metadata["field"]) == ("MISSING_FIELD", "manifest.model")
    assert [error.metadata["field"] for error in received.also] == [
        error.metadata["field"] for error in found[1:]
    ]
    many = problems(dependencies(*["numpy"] * MAX_DEPENDENCIES), TODAY, NIH)
    details = to_status(refusal(many))[2]
    received = from_details(details)
    assert received
    assert len(details) < 4000
    *shown, last = received.also
    assert 5 < len(shown) < 100
    assert last.message == f"and {len(many) - 1 - len(shown)} more"
