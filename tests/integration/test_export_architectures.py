"""The manifest's table of architectures equals what the export can build."""

from cxreval.manifest.model import ARCHITECTURES
from tests.conftest import require_module


def test_architectures_of_a_manifest_are_those_that_the_export_builds() -> None:
    require_module("torch")
    systems = require_module("cxreval.export.systems")
    assert set(ARCHITECTURES) == {
        "chexnet",
        "densenet121",
        "resnet50",
        *systems.TORCHXRAYVISION_MODELS,
    }
