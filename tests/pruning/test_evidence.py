"""Batches of any size give the same numbers, and more images take no more memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from exporter.pruning.evidence import Evidence, Need, gather_evidence
from exporter.pruning.groups import find_groups
from tests.pruning.criteria.networks import CONTRACT, random_batches, residual

FIELDS = {
    "weights": set[str](),
    "batch-norms": set[str](),
    "activations": {"input_mean", "input_norm", "input_active"},
    "gradients": {"gradient"},
    "squared-gradients": {"gradient_square", "removal_square"},
    "sample-gradients": {"gradient_square"},
    "feature-maps": {"map_rank"},
}
NEEDS: tuple[Need, ...] = get_args(Need)


def gathered(need: Need, batches: list[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Tensor]]:
    module = residual()
    evidence = gather_evidence(module, find_groups(module, CONTRACT), batches, need)
    return {name: dict(getattr(evidence, name)) for name in Evidence.__dataclass_fields__}


@pytest.mark.parametrize("need", NEEDS)
def test_only_what_is_needed_is_gathered(need: Need) -> None:
    found = gathered(need, random_batches(6, 3))
    assert {name for name, by_layer in found.items() if by_layer} == FIELDS[need]


@pytest.mark.parametrize("need", ["activations", "sample-gradients", "feature-maps"])
def test_batches_of_any_size_give_the_same(need: Need) -> None:
    whole = gathered(need, random_batches(15))
    parts = gathered(need, random_batches(7, 1, 5, 2))
    for name in FIELDS[need]:
        assert list(whole[name]) == list(parts[name])
        for layer, values in whole[name].items():
            # float32 convolutions sum in another order for another batch size.
            assert torch.allclose(parts[name][layer], values, rtol=1e-4, atol=1e-9), layer


@pytest.mark.parametrize("need", ["gradients", "squared-gradients"])
def test_gradients_of_batches_are_averaged_over_batches(need: Need) -> None:
    first, second = random_batches(6, 6)
    both = gathered(need, [first, second])
    one, other = gathered(need, [first]), gathered(need, [second])
    for name in FIELDS[need]:
        for layer, values in both[name].items():
            mean = (one[name][layer] + other[name][layer]) / 2
            assert torch.allclose(values, mean, rtol=1e-12)


def test_a_layer_that_never_runs_has_read_nothing() -> None:
    module = residual()
    module.spare = torch.nn.Conv2d(3, 2, 1)
    for need in ("activations", "gradients", "squared-gradients", "sample-gradients"):
        evidence = gather_evidence(module, (), random_batches(3), need)
        for name in FIELDS[need]:
            for by_layer in (getattr(evidence, name),):
                if by_layer:
                    assert float(by_layer["spare"].abs().max()) == 0


class _Allocated(TorchDispatchMode):
    """Counts the bytes of all tensors that operators made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, list | tuple) else (result,):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self._known:
            return
        self._known.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


@pytest.mark.parametrize("need", NEEDS)
def test_ten_times_the_images_take_no_more_memory(need: Need) -> None:
    module = residual()
    groups = find_groups(module, CONTRACT)

    def stream(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(count):
            yield torch.randn(4, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 0])

    def peak(count: int) -> int:
        allocated = _Allocated()
        with allocated:
            gather_evidence(module, groups, stream(count), need)
        return allocated.peak

    few = peak(3)
    assert few > 0
    assert peak(30) == few
