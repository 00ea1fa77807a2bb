"""A manifest file is read into the client's dataclass, or refused with the field that is wrong."""

import dataclasses

import pytest

from cxreval.client import SourceKind, read_manifest
from cxreval.datasets.benchmark import FINDINGS
from cxreval.errors import CxrevalError

TEXT = f"""
model = "Model"
organisation = "Organisation"
open_source = true
source_kind = "research-paper"
contact = "somebody@example.org"
preprocessing_profile = "xrv-224"
output_names = {list(FINDINGS)}

[reproduction]
repository = "https://example.org/repository"
commit = "0123456789abcdef0123456789abcdef01234567"
seed = 7

[environment]
python_version = "3.11.7"
dependencies = ["torch==2.13.0"]

[[claimed_metrics]]
metric = "auroc"
value = 1
"""


def read(tmp_path, text):
    file = tmp_path / "manifest.toml"
    file.write_text(text)
    return read_manifest(file)


def test_every_field_is_read(tmp_path):
    manifest = read(tmp_path, TEXT)
    assert manifest.source_kind is SourceKind.RESEARCH_PAPER
    assert manifest.output_names == FINDINGS
    assert (manifest.reproduction.seed, manifest.environment.dependencies) == (7, ("torch==2.13.0",))
    assert [dataclasses.astuple(claim) for claim in manifest.claimed_metrics] == [("auroc", 1.0, "")]


@pytest.mark.parametrize(
    ("old", "new", "reason", "field"),
    [
        ('contact = "somebody@example.org"\n', "", "MISSING_FIELD", "manifest.contact"),
        ("seed = 7\n", "", "MISSING_FIELD", "manifest.reproduction.seed"),
        ("seed = 7", f"seed = {2**63}", "MALFORMED_FIELD", "manifest.reproduction.seed"),
        ("seed = 7", 'seed = "7"', "MALFORMED_FIELD", "manifest.reproduction.seed"),
        ("open_source = true", "open_source = 1", "MALFORMED_FIELD", "manifest.open_source"),
        ('"research-paper"', '"hearsay"', "MALFORMED_FIELD", "manifest.source_kind"),
        ('model = "Model"', 'modle = "Model"', "MALFORMED_FIELD", "manifest.modle"),
        ('["torch==2.13.0"]', "[1]", "MALFORMED_FIELD", "manifest.environment.dependencies[0]"),
        ("[environment]", "[[environment]]", "MALFORMED_FIELD", "manifest.environment"),
        ("model =", "model", "MALFORMED_FIELD", "manifest"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, reason, field):
    with pytest.raises(CxrevalError) as caught:
        read(tmp_path, TEXT.replace(old, new, 1))
    assert (caught.value.reason, caught.value.metadata["field"]) == (reason, field)
