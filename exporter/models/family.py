"""A row of the table of networks, and the reference by which a checkpoint names its network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from exporter.contract import InputContract
from exporter.errors import ModelError


class Factory(Protocol):
    """Builds a network for ``classes`` classes and images of ``height`` x ``width`` pixels."""

    def __call__(
        self, *, widths: tuple[int, ...], classes: int, height: int, width: int
    ) -> nn.Module: ...


@runtime_checkable
class FitsData(Protocol):
    """A network whose first layer is computed from training images before training starts."""

    def fit_stem(self, pixels: Tensor) -> None:
        """Set the layer from normalised images ``float32 [N, 3, H, W]``."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One network with free widths."""

    name: str
    summary: str
    factory: Factory
    widths: tuple[int, ...]
    """Channels of its layers where the user doesn't say otherwise."""
    smallest_side: int
    """Images must have at least this many pixels a side."""
    learning_rate: float
    """Peak learning rate that suits it at the default batch size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRef:
    """Together with the input contract, all it takes to build a network again."""

    name: str
    """A row of the table, or one of the forms in ``exporter.models.foreign``."""
    widths: tuple[int, ...] = ()
    """Of a network of the table."""
    arguments: tuple[str, ...] = ()
    """NAME=VALUE, for the factory of a network that is not in the table."""
    source: str = ""
    """The user's file that makes it, absolute."""
    sha256: str = ""
    """Of that file."""


def reference(family: Family, widths: tuple[int, ...], contract: InputContract) -> ModelRef:
    """Return the reference of ``family`` for a dataset; raises ModelError if it cannot fit."""
    if min(contract.height, contract.width) < family.smallest_side:
        raise ModelError(
            f"{family.name} needs images of at least {family.smallest_side} pixels a side, "
            f"these have {contract.height}x{contract.width}. Set a larger --size."
        )
    if widths and (len(widths) != len(family.widths) or min(widths) < 1):
        raise ModelError(
            f"--widths of {family.name} takes {len(family.widths)} positive numbers such as "
            f"{','.join(map(str, family.widths))}, not {','.join(map(str, widths))}."
        )
    return ModelRef(name=family.name, widths=widths or family.widths)


def build_model(ref: ModelRef, contract: InputContract) -> nn.Module:
    """Return the network that ``ref`` describes, with fresh weights from torch's global seed.

    Raises:
        ModelError: it is unknown, or its factory is gone, has changed or fails.
    """
    from exporter.models import find_model
    from exporter.models.foreign import build_foreign, is_foreign

    if is_foreign(ref.name):
        return build_foreign(ref, len(contract.classes))
    return find_model(ref.name).factory(
        widths=ref.widths,
        classes=len(contract.classes),
        height=contract.height,
        width=contract.width,
    )
