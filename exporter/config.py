"""What a build is asked to do: one frozen dataclass per stage, one table of a recipe each.

A field is declared once, with its default, unit, limits and help text. The command line's options,
the recipe's keys and the checks below all come from these declarations, so they cannot disagree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from exporter.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """How one field is presented and limited."""

    help: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    flag: str = ""
    """The command line's name where it is not the field's own."""
    default_text: str = ""
    """What stands for the default where the value alone would not explain it."""


def option(default: T, help: str, **details: Any) -> T:
    """Declare a config field: a dataclass field whose metadata is an ``Option``."""
    return field(default=default, metadata={"option": Option(help=help, **details)})


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which images, and how they are split."""

    data: str = option("digits", "digits, cifar10, or a folder of images with one folder per class")
    download: bool = option(False, "Fetch the dataset if it is not there (cifar10)")
    data_root: str = option("data", "Where downloaded datasets are kept", unit="folder")
    size: str = option(
        "",
        "Image size the network sees, HEIGHTxWIDTH",
        unit="pixels",
        default_text="the dataset's own, or 64x64 where images differ",
    )
    resize: Literal["stretch", "crop"] = option(
        "crop", "stretch both sides, or scale the short side and crop the centre"
    )
    validation_share: float = option(
        0.05, "Share of the training images that steers choices", low=0.01, high=0.5
    )
    calibration_images: int = option(
        512,
        "Training images kept for calibration, at most a quarter",
        unit="images",
        low=8,
        high=65536,
    )
    test_share: float = option(
        0.2, "Share of a single tree that becomes the test split", low=0.01, high=0.9
    )
    max_unreadable: float = option(
        0.01, "Largest share of image files that may be unreadable", low=0.0, high=1.0
    )
    split_seed: int = option(0, "Seed of the splits", low=0, high=2**31 - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Which network, and how long it learns."""

    model: str = option("edge-vgg", "Network to train; see `exporter models`")
    widths: str = option(
        "", "Channels of the network's layers, comma-separated", default_text="the model's own"
    )
    epochs: int = option(
        0,
        "Passes over the training images",
        unit="epochs",
        low=0,
        high=100_000,
        default_text="as many as see 600,000 images, at least 12 and at most 24",
    )
    minutes: float = option(
        0.0,
        "Training budget in place of --epochs; not repeatable to the byte",
        unit="minutes",
        low=0.0,
        high=100_000.0,
        default_text="no limit",
    )
    batch_size: int = option(250, "Images per training step", unit="images", low=2, high=65536)
    learning_rate: float = option(
        0.0, "Peak learning rate", low=0.0, high=100.0, default_text="the model's own"
    )
    label_smoothing: float = option(0.1, "Label smoothing", low=0.0, high=0.9)
    flip: bool | None = option(
        None,
        "Mirror training images left to right",
        default_text="on, except for digits, which change meaning",
    )
    translate: int = option(2, "Random shift of training images", unit="pixels", low=0, high=256)
    cutout: int = option(
        0, "Side of a square blanked out of training images", unit="pixels", low=0, high=1024
    )
    seed: int = option(0, "Seed of the weights and of the augmentation", low=0, high=2**31 - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneConfig:
    """What is removed, by which score, and how the network recovers."""

    prune: float = option(0.4, "Share that is removed, 0 to 0.99", low=0.0, high=0.99)
    criterion: str = option("wanda", "Importance score; see `exporter criteria`")
    alpha: float = option(
        1.0,
        "Balance of activations against weights (criterion weight-activation)",
        low=0.0,
        high=1e6,
    )
    scope: Literal["global", "layer"] = option(
        "global", "One threshold for the whole network, or one per layer"
    )
    unit: Literal["channels", "weights"] = option(
        "channels", "Remove whole channels (smaller and faster) or single weights (download size)"
    )
    steps: int = option(1, "Rounds of pruning, each followed by fine-tuning", low=1, high=100)
    finetune_epochs: int = option(
        0,
        "Fine-tuning after pruning, all rounds together",
        unit="epochs",
        low=0,
        high=100_000,
        default_text="as many as training",
    )
    finetune_rate: float = option(
        0.0,
        "Peak learning rate of fine-tuning",
        low=0.0,
        high=100.0,
        default_text="half of training's",
    )
    distill: float = option(
        0.7,
        "Weight of the dense network's opinion in fine-tuning; 0 turns it off",
        low=0.0,
        high=1.0,
    )
    temperature: float = option(2.0, "Softening of that opinion", low=0.1, high=100.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationConfig:
    """How activation ranges are chosen."""

    method: str = option(
        "auto", "Range method (see `exporter methods`); auto takes the best on validation"
    )
    calibration_batch: int = option(
        32, "Images per calibration batch", unit="images", low=1, high=4096
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """What the artifact must prove."""

    max_drop: float = option(
        1.0,
        "Largest accepted drop of top-1 against the dense float model",
        unit="percentage points",
        low=-100.0,
        high=100.0,
    )
    min_speedup: float = option(
        1.2,
        "Smallest accepted speed-up over the dense float model",
        unit="times",
        low=0.0,
        high=1e6,
    )
    threads: int = option(1, "Threads of ONNX Runtime while timing", low=1, high=1024)
    timing_seconds: float = option(
        5.0, "Time spent on measuring latency", unit="seconds", low=0.1, high=3600.0
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """A whole build. The TOML recipe has the same shape: two keys and five tables."""

    target: str = option("cpu-int8", "Where the model will run; see `exporter targets`")
    out: str = option("dist", "Folder that receives the bundle", unit="folder")
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    calibrate: CalibrationConfig = field(default_factory=CalibrationConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)


def options_of(config_type: type) -> Mapping[str, Option]:
    """Return the declared options of a config dataclass by field name."""
    return {
        entry.name: entry.metadata["option"]
        for entry in dataclasses.fields(config_type)
        if "option" in entry.metadata
    }


def check_limits(config: object) -> None:
    """Raise ConfigError if a number in ``config`` (or in a nested config) is outside its limits."""
    for entry in dataclasses.fields(cast(Any, config)):
        value = getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            check_limits(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            limits: Option = entry.metadata["option"]
            if not limits.low <= value <= limits.high:
                flag = "--" + (limits.flag or entry.name).replace("_", "-")
                raise ConfigError(
                    f"{flag} is {value}, but must lie between {limits.low:g} and {limits.high:g}."
                )
