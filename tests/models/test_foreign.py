"""Networks from torchvision, from a file and from a package: found, built, rebuilt, refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.artifacts import load_result, save_result, sha256_of
from exporter.checkpoint import Checkpoint, restore, save_checkpoint
from exporter.config import TrainConfig
from exporter.contract import InputContract
from exporter.errors import ConfigError, ModelError
from exporter.models import build_model
from exporter.models.arguments import parse_arguments
from exporter.models.choose import check_model, choose_model
from exporter.models.family import ModelRef
from exporter.models.foreign import short_name

CONTRACT = InputContract(height=32, width=32, classes=("a", "b", "c"))
SOURCE = """
from dataclasses import dataclass
from torch import nn
from beside import ACTIVATIONS

@dataclass
class Shape:
    width: int

def small(num_classes, width=8, act="relu"):
    shape = Shape(width)
    return nn.Sequential(
        nn.Conv2d(3, shape.width, 3, stride=4), ACTIVATIONS[act](), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(shape.width, num_classes),
    )

def fixed():
    return small(5)

def failing(num_classes):
    raise RuntimeError("no such\\nlayer")

def leaving(num_classes):
    raise SystemExit(3)

def number(num_classes):
    return num_classes

class Pair(nn.Module):
    def __init__(self, classes, in_training_only=False):
        super().__init__()
        self.net = small(classes)
        self.in_training_only = in_training_only

    def forward(self, pixels):
        logits = self.net(pixels)
        return logits if self.in_training_only and not self.training else (logits, logits)

class Ignorant(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = small(7)

    def forward(self, pixels):
        return self.net(pixels)
"""
BESIDE = "from torch import nn\nACTIVATIONS = {'relu': nn.ReLU, 'silu': nn.SiLU}\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    (tmp_path / "beside.py").write_text(BESIDE)
    path = tmp_path / "nets.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site" / "my_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "beside.py").write_text(BESIDE)
    path = folder / "zoo.py"
    path.write_text(SOURCE.replace("from beside", "from my_package.beside"))
    monkeypatch.syspath_prepend(str(folder.parent))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        monkeypatch.delitem(sys.modules, name)
    return path


def chosen(model: str, *arguments: str, contract: InputContract = CONTRACT) -> ModelRef:
    return choose_model(TrainConfig(model=model, model_arg=arguments), contract)


def round_trip(ref: ModelRef, folder: Path) -> tuple[Checkpoint, nn.Module]:
    """Save a network with its weights, read the reference back from JSON, and build it again."""
    torch.manual_seed(3)
    module = build_model(ref, CONTRACT).eval()
    folder.mkdir()
    saved = save_checkpoint(folder, module, ref, CONTRACT, {})
    save_result(folder, saved)
    checkpoint = load_result(folder, Checkpoint)
    assert checkpoint == saved
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(restore(checkpoint)(pixels), module(pixels))
    return checkpoint, module


def test_a_function_in_a_file(file: Path, tmp_path: Path) -> None:
    ref = chosen(f"{file}:small", "width=12", "act=silu")
    assert ref.source == str(file)
    assert ref.sha256 == sha256_of(file)
    _, module = round_trip(ref, tmp_path / "saved")
    assert isinstance(module, nn.Sequential)
    assert module[0].out_channels == 12
    assert module[4].out_features == 3
    assert isinstance(module[1], nn.SiLU)
    assert short_name(ref.name) == "small"


def test_a_function_in_a_package(package: Path, tmp_path: Path) -> None:
    ref = chosen("my_package.zoo:small")
    assert (ref.source, ref.sha256) == (str(package), sha256_of(package))
    checkpoint, _ = round_trip(ref, tmp_path / "saved")
    package.write_text(package.read_text() + "\n")
    with pytest.raises(ModelError, match=r"zoo\.py has changed since this network was made"):
        restore(checkpoint)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("squeezenet1_1", ()), ("shufflenet_v2_x0_5", ("num_classes=3",)), ("mobilenet_v2", ())],
)
def test_a_network_of_torchvision(name: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    ref = chosen(f"torchvision:{name}", *arguments)
    assert ref == ModelRef(name=f"torchvision:{name}", arguments=arguments)
    round_trip(ref, tmp_path / "saved")


def test_a_class_will_do_and_auxiliary_outputs_will_not(file: Path) -> None:
    with pytest.raises(ModelError, match=r"Pair returns tuple, but must return logits"):
        chosen(f"{file}:Pair")
    with pytest.raises(ModelError, match=r"returns tuple in training mode, but must"):
        chosen(f"{file}:Pair", "in_training_only=True")


def test_googlenet_comes_without_auxiliary_outputs_and_without_a_normalisation_of_its_own() -> None:
    ref = ModelRef(name="torchvision:googlenet", arguments=("init_weights=False",))
    module = build_model(ref, CONTRACT)
    assert not module.aux_logits
    assert not module.transform_input
    assert not [name for name in module.state_dict() if name.startswith("aux")]


def test_a_changed_file_is_refused_and_the_old_one_works_again(file: Path, tmp_path: Path) -> None:
    checkpoint, _ = round_trip(chosen(f"{file}:small"), tmp_path / "saved")
    file.write_text(SOURCE.replace("stride=4", "stride=2"))
    with pytest.raises(ModelError) as caught:
        restore(checkpoint)
    assert f"{file} has changed since this network was made with it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert chosen(f"{file}:small").sha256 != checkpoint.model.sha256
    file.unlink()
    with pytest.raises(ModelError, match=r"nets\.py is gone, but .*:small is built by it"):
        restore(checkpoint)
    file.write_text(SOURCE)
    restore(checkpoint)


def test_a_file_that_moved_is_found_where_the_name_leads(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint, _ = round_trip(chosen("nets.py:small"), tmp_path / "saved")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file.rename(elsewhere / "nets.py")
    monkeypatch.chdir(elsewhere)
    restore(checkpoint)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("fixed", (), "has 5 outputs, but the data has 3 classes. Its factory takes no num_class"),
        ("Ignorant", (), "has 7 outputs, but the data has 3 classes. Its factory was called with"),
        ("small", ("num_classes=10",), "has 10 outputs, .* Leave out --model-arg num_classes"),
        ("failing", (), "failing cannot be built: RuntimeError: no such"),
        ("leaving", (), "leaving cannot be built: SystemExit: 3"),
        ("number", (), "returns a int, but must return a Module"),
        ("smal", (), "has no function or class 'smal'. It has small"),
        ("small", ("depth=3",), "unexpected keyword argument 'depth'"),
    ],
)
def test_what_a_factory_cannot_do_is_one_line(
    file: Path, function: str, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        chosen(f"{file}:{function}", *arguments)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_images_that_are_too_small_are_one_line() -> None:
    tiny = InputContract(height=8, width=8, classes=("a", "b"))
    with pytest.raises(ModelError) as caught:
        chosen("torchvision:alexnet", contract=tiny)
    text = str(caught.value)
    assert text.startswith("torchvision:alexnet does not take images of 8x8 pixels: ")
    assert text.endswith("Try a larger --size, such as 64x64 or 224x224.")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("torchvision:resnet19", "torchvision has no network 'resnet19'. Close: resnet18"),
        ("nowhere.py:net", "nowhere.py is not a file"),
        ("no_such_package.zoo:net", "There is no module 'no_such_package.zoo'"),
        ("sys:exit", "There is no module 'sys' with a file"),
        ("json:nothing_there", "json has no function or class 'nothing_there'"),
        (":net", "must be one of: torchvision:NAME"),
        ("nets.py:", "must be one of: torchvision:NAME"),
    ],
)
def test_a_network_that_is_not_there_is_one_line(model: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_model(TrainConfig(model=model))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("def net(:\n")
    with pytest.raises(ModelError, match=r"broken\.py cannot be run: SyntaxError"):
        check_model(TrainConfig(model=f"{path}:net"))
    path.write_text("import no_such_thing\n")
    with pytest.raises(ModelError, match="No module named 'no_such_thing'"):
        check_model(TrainConfig(model=f"{path}:net"))
    assert str(tmp_path) not in sys.path


def test_options_of_the_other_kind_of_network_are_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="--widths is for the networks of `exporter models`"):
        check_model(TrainConfig(model=f"{file}:small", widths="8"))
    with pytest.raises(ConfigError, match="--model-arg is for a network of torchvision's"):
        check_model(TrainConfig(model="resnet8", model_arg=("depth=3",)))
    with pytest.raises(ModelError, match="would make torchvision:resnet18 fetch weights"):
        check_model(TrainConfig(model="torchvision:resnet18", model_arg=("weights=DEFAULT",)))


def test_arguments_are_literals_or_text() -> None:
    texts = ("n=3", "rate=-0.5", "wide=true", "deep=False", "none=None", "sizes=[1, 2]", "s='a=b'")
    assert parse_arguments((*texts, "path=a/b", "empty=")) == {
        "n": 3, "rate": -0.5, "wide": True, "deep": False, "none": None, "sizes": [1, 2],
        "s": "a=b", "path": "a/b", "empty": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("depth",), "--model-arg is 'depth', but must be NAME=VALUE"),
        (("=3",), "must be NAME=VALUE"),
        (("a-b=3",), "must be NAME=VALUE"),
        (("a=1", "a=2"), "states a twice"),
    ],
)
def test_arguments_that_are_none_are_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arguments(texts)
