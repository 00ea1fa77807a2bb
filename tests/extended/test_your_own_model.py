"""docs/your-own-model.md for each library: rows with the probabilities of the original models.

The table of predictions is in tests/e2e/test_your_own_model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_module
from tests.support import own_model
from tests.support.own_model import Array, Newcomer
from tests.support.system import System

pytestmark = [
    pytest.mark.timeout(600),  # PyTorch is slow to start on a busy machine
    pytest.mark.filterwarnings("ignore"),  # of the libraries
]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_model.platform(tmp_path_factory.mktemp("own")) as running:
        yield running


@pytest.fixture
def newcomer(system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newcomer:
    require_module("cxreval.export.torch_libraries")  # imports torchvision beside a CPU's PyTorch
    require_module("torch").manual_seed(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    return Newcomer(system, tmp_path)


def logits(model: Any) -> Callable[[Array], Any]:
    """Returns the network of a PyTorch model, with a sigmoid."""
    torch: Any = require_module("torch")

    def network(tensor: Array) -> Any:
        with torch.inference_mode():
            answer = model(torch.from_numpy(tensor))
            return getattr(answer, "logits", answer).sigmoid().numpy()

    return network


def test_an_efficientnet_of_timm_gets_a_row_with_its_own_probabilities(
    newcomer: Newcomer,
) -> None:
    require_module("cxreval.export.torch_libraries")  # imports torchvision beside a CPU's PyTorch
    torch: Any = require_module("torch")
    torch.manual_seed(0)
    model = newcomer.python("timm")["model"]

    def network(tensor: own_model.Array) -> own_model.Array:
        with torch.inference_mode():
            answer: own_model.Array = model(torch.from_numpy(tensor)).sigmoid().numpy()
        return answer

    own_model.follow(newcomer, network, "timm")


def test_the_weights_of_a_network_of_timm(newcomer: Newcomer) -> None:
    model = newcomer.python("weights")["model"].eval()
    own_model.follow(newcomer, logits(model), "timm", "weights", file="model.pth")


def test_a_densenet_of_monai(newcomer: Newcomer) -> None:
    require_module("monai")
    model = newcomer.python("monai")["model"]
    own_model.follow(newcomer, logits(model), "monai")


def test_a_file_of_keras(newcomer: Newcomer) -> None:
    keras: Any = require_module("keras")
    keras.utils.set_random_seed(7)
    layers = keras.layers
    keras.Sequential([
        layers.Input((224, 224, 3)), layers.Rescaling(1 / 127.5, offset=-1),
        layers.Conv2D(8, 7, strides=4, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(16, 3, activation="relu"), layers.GlobalAveragePooling2D(),
        layers.Dense(14, "sigmoid"),
    ]).save("model.keras")  # fmt: skip
    model = newcomer.python("keras")["model"]
    own_model.follow(newcomer, lambda tensor: model.predict(tensor, verbose=0), "keras")


def test_a_checkpoint_of_hugging_face(newcomer: Newcomer) -> None:
    transformers: Any = require_module("transformers")
    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = transformers.ViTConfig(**small, intermediate_size=64, num_labels=own_model.FINDINGS)
    transformers.ViTForImageClassification(config).save_pretrained("checkpoint")
    model = newcomer.python("huggingface")["model"]
    own_model.follow(newcomer, logits(model), "huggingface")
