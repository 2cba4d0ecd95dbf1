"""Weights files of every kind, good and bad, for a network of three layers."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from exporter.errors import ModelError
from exporter.models.family import ModelRef
from exporter.models.weights import load_weights

REF = ModelRef(name="nets.py:net")
State = dict[str, Tensor]


def network(classes: int = 3, width: int = 4) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, width, 3), norm=nn.BatchNorm2d(width), pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(), head=nn.Linear(width, classes),
        )
    )  # fmt: skip


def trained(seed: int = 7) -> State:
    torch.manual_seed(seed)
    return {
        name: torch.rand_like(tensor) if tensor.is_floating_point() else tensor + 5
        for name, tensor in network().state_dict().items()
    }


def loaded(path: Path) -> State:
    module = network()
    load_weights(module, path, REF)
    assert all(tensor.device.type == "cpu" for tensor in module.state_dict().values())
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    return module.state_dict()


def same(found: State, expected: State) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name].to(found[name].dtype)) for name in expected
    )


@pytest.mark.parametrize("suffix", ["pt", "pth", "th", "tar", "bin", "safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_content_counts_not_the_suffix(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path = tmp_path / f"weights.{suffix}"
    torch.save(trained(), path, _use_new_zipfile_serialization=zipped)
    assert same(loaded(path), trained())


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_safetensors(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    save_file(trained(), path)
    assert same(loaded(path), trained())


@pytest.mark.parametrize(
    "nest",
    [
        lambda state: {"state_dict": state, "epoch": 3, "best": torch.tensor(0.93)},
        lambda state: {"model": state, "optimizer": {"state": {}, "lr": 0.1}},
        lambda state: {"net": state, "acc": 95.1},
        lambda state: {"model_state_dict": state, "loss": None},
        lambda state: {"ema": OrderedDict(state)},
        lambda state: {"checkpoint": 1, "model": {"state_dict": state}},
        lambda state: {"state_dict": state, "ema": {k: v * 0 for k, v in state.items()}},
    ],
)
def test_nested_in_a_training_checkpoint(
    tmp_path: Path, nest: Callable[[State], dict[str, Any]]
) -> None:
    torch.save(nest(trained()), tmp_path / "a.pth")
    assert same(loaded(tmp_path / "a.pth"), trained())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_prefixes_of_wrappers_come_off(tmp_path: Path, prefix: str) -> None:
    torch.save({prefix + name: value for name, value in trained().items()}, tmp_path / "a.pt")
    assert same(loaded(tmp_path / "a.pt"), trained())


def test_an_average_of_a_data_parallel_network(tmp_path: Path) -> None:
    module = network()
    module.load_state_dict(trained())
    torch.save(AveragedModel(nn.DataParallel(module)).state_dict(), tmp_path / "a.pt")
    assert same(loaded(tmp_path / "a.pt"), trained())


def test_a_prefix_that_the_network_has_itself_stays(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

    torch.save({f"module.model.{k}": v for k, v in trained().items()}, tmp_path / "a.pt")
    module = Wrapped()
    load_weights(module, tmp_path / "a.pt", REF)
    assert same(module.model.state_dict(), trained())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_other_precisions_become_float32(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in trained().items()}
    path = tmp_path / f"a.{kind}"
    if kind == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    assert same(loaded(path), state)


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_from_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
        torch.save(trained(), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert b"cuda:3" in (tmp_path / "a.pt").read_bytes()
    assert same(loaded(tmp_path / "a.pt"), trained())


def test_old_files_lack_the_counter_of_batch_norm(tmp_path: Path) -> None:
    state = {name: value for name, value in trained().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "a.pt")
    found = loaded(tmp_path / "a.pt")
    assert int(found["norm.num_batches_tracked"]) == 0
    assert torch.equal(found["norm.running_var"], state["norm.running_var"])


def test_auxiliary_classifiers_are_left_out(tmp_path: Path) -> None:
    torch.save(trained() | {"aux1.fc1.weight": torch.zeros(2)}, tmp_path / "a.pt")
    module = network()
    load_weights(module, tmp_path / "a.pt", ModelRef(name="torchvision:googlenet"))
    assert same(module.state_dict(), trained())
    with pytest.raises(ModelError, match=r"1 unexpected \(aux1\.fc1\.weight\)"):
        loaded(tmp_path / "a.pt")


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    state = {"state_dict": trained(), "args": Malicious(trace)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError) as caught:
        loaded(tmp_path / "a.pt")
    assert not trace.exists()
    text = str(caught.value)
    assert "a.pt is refused: besides tensors it holds Python objects (posix.mkdir)" in text
    assert "torch.save(model.state_dict(), FILE)" in text
    assert "\n" not in text


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"is refused: .*Sequential.* none was run"):
        loaded(tmp_path / "a.pt")


BROKEN = {
    "empty": b"",
    "text": b"these are no weights",
    "number": b"\x80\x02K\x01.",
    "a zip": b"PK\x05\x06" + 18 * b"\0",
    "a header that lies": b"\xff\xff\xff\xff\0\0\0\0{}",
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_files_of_another_kind_are_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.pt").write_bytes(BROKEN[name])
    with pytest.raises(ModelError) as caught:
        loaded(tmp_path / "a.pt")
    assert str(tmp_path / "a.pt") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncated_files_are_one_line(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "a.pt"
    if kind == "safetensors":
        save_file(trained(), path)
    else:
        torch.save(trained(), path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match="truncated") as caught:
        loaded(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Cannot read the weights .*: No such file"):
        loaded(tmp_path / "a.pt")
    with pytest.raises(ModelError, match="Is a directory"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "optimizer": {}}, "holds no state dict, but a dict with epoch, optimizer"),
        ({"model": {"lr": 0.1}}, r"\['model'\] holds no state dict, but a dict with lr"),
        (torch.zeros(3), "holds no state dict, but a Tensor"),
        ([1, 2], "holds no state dict, but a list"),
        ({}, "holds no state dict, but a dict. Save"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_has(
    tmp_path: Path, content: object, message: str
) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=message):
        loaded(tmp_path / "a.pt")


def refusal(tmp_path: Path, state: State) -> str:
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ModelError) as caught:
        loaded(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_unexpected_and_misshaped_tensors_are_named_and_counted(tmp_path: Path) -> None:
    state = trained()
    for name in ("head.weight", "head.bias", "norm.bias", "norm.running_mean"):
        del state[name]
    state |= {"fc.weight": torch.zeros(1), "conv.weight": torch.zeros(4, 3, 5, 5)}
    text = refusal(tmp_path, state)
    assert "does not fit nets.py:net: " in text
    assert "4 missing (norm.bias, norm.running_mean, head.weight and 1 more)" in text
    assert "1 unexpected (fc.weight)" in text
    assert "1 of another shape (conv.weight is 4x3x5x5, not 4x3x3x3)" in text


def test_a_classifier_of_another_size_says_what_to_do(tmp_path: Path) -> None:
    text = refusal(tmp_path, network(classes=1000).state_dict())
    assert "(head.weight) tells 1000 classes apart, but the data has 3" in text
    assert "Use --data with the classes it was trained on, or weights that were trained" in text


def test_another_width_is_not_taken_for_a_classifier(tmp_path: Path) -> None:
    text = refusal(tmp_path, network(width=8).state_dict())
    assert "7 of another shape (conv.weight is 8x3x3x3, not 4x3x3x3, " in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = trained()
    state["conv.bias"][1] = value
    assert "holds values that are not finite: conv.bias" in refusal(tmp_path, state)
