"""Each short name of an architecture in a manifest is one that the export builds."""

from cxreval.manifest.model import ARCHITECTURES
from tests.conftest import require_module


def test_short_names_of_a_manifest_are_those_that_the_export_builds() -> None:
    require_module("torch")
    systems = require_module("cxreval.export.systems")
    architectures = require_module("cxreval.export.architectures")
    assert set(ARCHITECTURES) == {*architectures.SHORT_NAMES, *systems.TORCHXRAYVISION_MODELS}
