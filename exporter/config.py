"""What a build is asked to do: one frozen dataclass per stage, one table of a recipe each.

A field is declared once, with its default, unit, limits and help text. The command line's options,
the recipe's keys and the checks all come from these declarations, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from exporter.emulation.instruction_sets import INSTRUCTION_SETS, NATIVE, parse_isas
from exporter.errors import ConfigError
from exporter.option import flag_of, option

DEFAULT_SHARE = 0.25
DEFAULT_STEPS = 4


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

    model: str = option(
        "edge-vgg",
        "Network: see `exporter models`; or torchvision:NAME, path/to/file.py:FUNCTION, "
        "package.module:FUNCTION",
    )
    model_arg: tuple[str, ...] = option(
        (),
        "NAME=VALUE for the function that makes the network; can be repeated",
        default_text="none",
    )
    weights: str = option(
        "",
        "File of trained weights to start from in place of training: safetensors, or a state dict "
        "in .pt, .pth, .th, .tar",
        default_text="none, the network is trained",
    )
    normalization: str = option(
        "",
        "Pixels the weights were trained on: own, imagenet, cifar10, cifar100, inception (-1 to "
        "1), none (0 to 1), raw (0 to 255)",
        default_text="own; with --weights of another network imagenet, of Inception inception; "
        "with --onnx what the file's first operators tell, else imagenet",
    )
    mean: str = option(
        "",
        "In place of --normalization, (pixel * scale - mean) / std: one number, or R,G,B",
        default_text="0",
    )
    std: str = option("", "See --mean: one number, or R,G,B", default_text="1")
    scale: str = option("", "See --mean: one number", default_text="1/255")
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
    label_smoothing: float | None = option(
        None, "Label smoothing", low=0.0, high=0.9, default_text="0.1; 0 with --weights"
    )
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


BUDGETS = ("max_parameters", "max_macs", "max_kb", "max_ms")
"""Fields of ``PruneConfig`` that stand in for the share; at most one may be set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneConfig:
    """What is removed, by which score, and how the network recovers."""

    prune: float | None = option(
        None,
        "Share that is removed, 0 to 0.99",
        low=0.0,
        high=0.99,
        default_text="0.25 where no budget is given",
    )
    max_parameters: int = option(
        0,
        "In place of --prune: keep the widest network with at most so many weights and biases",
        low=0,
        high=1e12,
        default_text="no limit",
    )
    max_macs: int = option(
        0,
        "In place of --prune: the widest with at most so many multiply-accumulates per image",
        low=0,
        high=1e15,
        default_text="no limit",
    )
    max_kb: float = option(
        0.0,
        "In place of --prune: the widest whose int8 file has at most so many 1000 bytes",
        unit="kB",
        low=0.0,
        high=1e9,
        default_text="no limit",
    )
    max_ms: float = option(
        0.0,
        "In place of --prune: the widest whose int8 file is that fast on this machine, one image, "
        "one thread; another machine gives another network",
        unit="milliseconds",
        low=0.0,
        high=1e6,
        default_text="no limit",
    )
    criterion: str = option("wanda", "Importance score; see `exporter criteria`")
    alpha: float = option(
        1.0,
        "Balance of activations against weights (criterion weight-activation)",
        low=0.0,
        high=1e6,
    )
    allocate: Literal["layer", "global", "sensitivity"] = option(
        "layer",
        "The same share of every layer, one threshold for the whole network, or each layer as much "
        "as a scan says it can lose (takes longer)",
    )
    scan_shares: str = option(
        "0.1,0.25,0.5,0.75,0.9",
        "Shares of a layer's channels that the scan removes in turn, comma-separated",
    )
    unit: Literal["channels", "weights"] = option(
        "channels", "Remove whole channels (smaller and faster) or single weights (download size)"
    )
    schedule: Literal["one-shot", "linear", "cubic", "geometric"] = option(
        "one-shot", "All at once, or in rounds: equal steps, large ones first, or equal shares"
    )
    steps: int = option(
        0,
        "Rounds of pruning, each followed by fine-tuning",
        low=0,
        high=100,
        default_text="1 for one-shot, else 4",
    )
    finetune_epochs: int = option(
        0,
        "Fine-tuning after pruning, all rounds together; the last has half of it",
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
    teacher: str = option(
        "",
        "Folder of a checkpoint whose opinion fine-tuning learns from",
        default_text="the dense network",
    )
    distill: float = option(0.7, "Weight of that opinion; 0 turns it off", low=0.0, high=1.0)
    distill_auto: bool = option(
        False,
        "Fine-tune the last round without the teacher too and keep what is better on validation; "
        "doubles that round's time",
    )
    temperature: float = option(2.0, "Softening of that opinion", low=0.1, high=100.0)

    @property
    def share(self) -> float:
        """The share that is asked for where no budget is."""
        return DEFAULT_SHARE if self.prune is None else self.prune

    @property
    def budget(self) -> tuple[str, float] | None:
        """The field that holds the budget, with its value; None where a share is asked for."""
        asked = [(name, float(getattr(self, name))) for name in BUDGETS if getattr(self, name)]
        return asked[0] if asked else None

    @property
    def shares_to_scan(self) -> tuple[float, ...]:
        """What ``scan_shares`` says; raises ConfigError where that is no share."""
        try:
            shares = tuple(float(part) for part in self.scan_shares.split(","))
        except ValueError:
            shares = ()
        if not shares or not all(0 < share < 1 for share in shares):
            raise ConfigError(
                "--scan-shares takes numbers between 0 and 1 separated by commas, such as "
                f"0.25,0.5; not {self.scan_shares!r}."
            )
        return shares

    @property
    def rounds(self) -> int:
        """How often something is removed."""
        return self.steps or (1 if self.schedule == "one-shot" else DEFAULT_STEPS)

    def check_rules(self) -> None:
        """Raise ConfigError where options contradict each other."""
        _ = self.shares_to_scan  # raises where they are none
        asked = ["prune"] * (self.prune is not None) + [n for n in BUDGETS if getattr(self, n)]
        if len(asked) > 1:
            raise ConfigError(f"{' and '.join(map(flag_of, asked))} exclude each other. Give one.")
        if self.unit == "weights" and self.budget:
            raise ConfigError(
                f"{flag_of(asked[0])} needs --unit channels: single weights that are zero leave "
                "the network as large and as slow as it was. Use --prune."
            )
        if self.unit == "weights" and self.allocate == "sensitivity":
            raise ConfigError(
                "--allocate sensitivity needs --unit channels. Use --allocate layer or global."
            )
        if not self.distill and (self.teacher or self.distill_auto):
            flag = "--teacher" if self.teacher else "--distill-auto"
            raise ConfigError(
                f"{flag} needs a --distill above 0: nothing is learnt from a teacher."
            )
        if self.schedule == "one-shot" and self.steps > 1:
            raise ConfigError(
                f"--steps {self.steps} needs --schedule linear, cubic or geometric; one-shot is "
                "one round."
            )


MIN_SQNR = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class IntakeConfig:
    """A trained network that comes as a float ONNX file, in place of training and pruning."""

    onnx: str = option(
        "",
        "Float ONNX classifier to start from in place of training and pruning; --normalization, or "
        "--mean, --std and --scale, say which pixels it takes",
        default_text="none, a network is trained",
    )
    input: str = option(
        "",
        "Name of the ONNX file's input that takes the image",
        default_text="the only one, or the only one of the shape of an image",
    )
    output: str = option(
        "",
        "Name of its output that holds a number for each class",
        default_text="the only one, or the only one of that shape",
    )
    constant: tuple[str, ...] = option(
        (),
        "NAME=NUMBER for another input of it, which becomes constant; can be repeated",
        default_text="none",
    )
    layout: Literal["auto", "nchw", "nhwc"] = option(
        "auto", "Order of its input's dimensions; auto looks where the channels are"
    )
    channel_order: Literal["rgb", "bgr"] = option("rgb", "Order of its input's channels")
    task: Literal["classes", "any"] = option(
        "classes",
        "What its outputs are: a number for each class, or any float tensors (segmentation, "
        "embeddings), which `quantize` compares with the float model's",
    )
    min_sqnr: float = option(
        MIN_SQNR,
        "Smallest accepted signal-to-noise ratio of an output, the float model's output against "
        "the change by int8 (--task any)",
        unit="dB",
        low=-100.0,
        high=1000.0,
    )
    classes: str = option(
        "",
        "File with the class of each of its outputs, one name per line; outputs that are no class "
        "of the data are dropped",
        default_text="the classes of the data, in alphabetical order",
    )

    def check_rules(self) -> None:
        """Raise ConfigError where what is said about outputs is for the other kind."""
        if self.task == "any" and self.classes:
            raise ConfigError(f"--classes {self.classes} names classes, but --task any has none.")
        if self.task == "classes" and self.min_sqnr != MIN_SQNR:
            raise ConfigError(f"--min-sqnr {self.min_sqnr:g} needs --task any.")


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationConfig:
    """How activation ranges are chosen."""

    method: str = option(
        "auto",
        "Range method (see `exporter methods`); auto takes the best on validation, per-tensor for "
        "each tensor the one that the outputs suffer least from (slow in large networks)",
    )
    calibration_batch: int = option(
        32, "Images per calibration batch", unit="images", low=1, high=4096
    )


CORRECTIONS = ("open-clips", "equalize", "adaround", "bias")
"""What ``CorrectionConfig`` knows, in the order in which it is done."""
RECOVER_DROP = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class CorrectionConfig:
    """What is done to take back some of quantization's error."""

    correct: str = option(
        "none",
        "none, or corrections of the int8 model, comma-separated: open-clips, equalize, adaround "
        "(takes minutes), bias",
    )
    aware_epochs: int = option(
        0,
        "Quantization-aware fine-tuning: passes over the training images in which the weights "
        "learn to be rounded, with the float network as teacher",
        unit="epochs",
        low=0,
        high=100_000,
        default_text="0, none; with --recover auto a quarter of training's default",
    )
    recover: Literal["none", "auto"] = option(
        "none",
        "auto tries corrections, other roundings, layers in float and quantization-aware "
        "fine-tuning, one after the other, until the drop on validation images is small enough",
    )
    recover_drop: float = option(
        RECOVER_DROP,
        "Drop of int8 against its own float model, on validation images, at which --recover auto "
        "stops",
        unit="percentage points",
        low=0.0,
        high=100.0,
    )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The corrections asked for, in their order; raises ConfigError for an unknown one."""
        asked = [name.strip() for name in self.correct.split(",")]
        if asked == ["none"]:
            return ()
        unknown = [name for name in asked if name not in CORRECTIONS]
        if unknown:
            raise ConfigError(
                f"--correct: unknown correction {unknown[0]!r}. Known: {', '.join(CORRECTIONS)}, "
                "separated by commas; or none."
            )
        return tuple(name for name in CORRECTIONS if name in asked)

    def check_rules(self) -> None:
        """Raise ConfigError for an unknown correction, or one beside those to be found."""
        if self.chosen and self.recover == "auto":
            raise ConfigError(
                f"--recover auto finds out what helps, but --correct is {self.correct}. Leave out "
                "one of them."
            )
        if self.recover == "none" and self.recover_drop != RECOVER_DROP:
            raise ConfigError(f"--recover-drop {self.recover_drop:g} needs --recover auto.")


NO_LAYERS, SLOW_LAYERS = "none", "slow"


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeConfig:
    """Which layers become integers."""

    float_layers: str = option(
        NO_LAYERS,
        "Layers that stay float: none; slow, those without which the file is faster on this "
        "machine and no less accurate on validation images (up to a minute); or names, "
        "comma-separated",
    )

    @property
    def named_layers(self) -> tuple[str, ...]:
        """The layers that are named; raises ConfigError where a name is empty."""
        if self.float_layers in (NO_LAYERS, SLOW_LAYERS):
            return ()
        names = tuple(dict.fromkeys(name.strip() for name in self.float_layers.split(",")))
        if not all(names) or {NO_LAYERS, SLOW_LAYERS} & set(names):
            raise ConfigError(
                f"--float-layers is {self.float_layers!r}, but must be {NO_LAYERS}, {SLOW_LAYERS}, "
                "or names of layers separated by commas (see `exporter inspect`)."
            )
        return names

    def check_rules(self) -> None:
        """Raise ConfigError where a name is empty."""
        _ = self.named_layers


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
    min_speedup: float | None = option(
        None,
        "Smallest accepted speed-up over the dense float model",
        unit="times",
        low=0.0,
        high=1e6,
        default_text="1.2; 0.95 where the target ships a float model",
    )
    confidence: float = option(
        0.0,
        "Let --max-drop and --min-speedup go by the bad end of the confidence interval of this "
        "level, such as 0.95, in place of the measured value",
        low=0.0,
        high=0.9999,
        default_text="0, the measured value counts",
    )
    threads: int = option(1, "Threads of ONNX Runtime while timing", low=1, high=1024)
    timing_seconds: float = option(
        5.0, "Time spent on measuring latency", unit="seconds", low=0.1, high=3600.0
    )
    isa: str = option(
        NATIVE,
        "Instruction sets to check, comma-separated: native is this CPU's; others are emulated, "
        f"numerics only: {', '.join(INSTRUCTION_SETS)} (see `exporter doctor`)",
    )
    isa_images: int = option(
        1000, "Test images to run on each emulated CPU", unit="images", low=1, high=1e9
    )
    thorough: bool = option(
        False,
        "Measure more, which takes about a minute: all threads, larger batches, cold start and "
        "peak memory",
    )

    def check_rules(self) -> None:
        """Raise ConfigError where ``isa`` names what there is not, or no level is meant."""
        parse_isas(self.isa)
        if 0 < self.confidence < 0.5:
            raise ConfigError(
                f"--confidence is {self.confidence:g}, but must be at least 0.5, or 0 for none. "
                "Usual is 0.95."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """A whole build. The TOML recipe has the same shape: two keys and a table for each part."""

    target: str = option("cpu-int8", "Where the model will run; see `exporter targets`")
    out: str = option("dist", "Folder that receives the bundle", unit="folder")
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    calibrate: CalibrationConfig = field(default_factory=CalibrationConfig)
    correct: CorrectionConfig = field(default_factory=CorrectionConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)

    def check_rules(self) -> None:
        """Raise ConfigError where options of different stages contradict each other."""
        if self.prune.max_ms and self.verify.threads != 1:
            raise ConfigError(
                f"--max-ms is a budget for one thread, but --threads is {self.verify.threads}. "
                "Leave out one of them."
            )
        if self.intake.onnx:
            learns = self.correct.aware_epochs or self.correct.recover == "auto"
            used = (*PIXELS, *LESSON) if learns else PIXELS
            needless = [*_changed(self.train, but=used), *_changed(self.prune)]
            if needless:
                raise ConfigError(
                    f"{flag_of(needless[0])} is for training or pruning, but --onnx brings a "
                    "trained network, which is quantized as it is. Leave one of them out."
                )


PIXELS = ("normalization", "mean", "std", "scale")
"""Fields of ``TrainConfig`` that say which pixels a network takes, whoever trained it."""
LESSON = ("batch_size", "flip", "translate", "cutout", "seed")
"""Those that quantization-aware fine-tuning goes by, too."""


def _changed(config: TrainConfig | PruneConfig, but: tuple[str, ...] = ()) -> list[str]:
    """Return the fields of ``config`` that don't have their default, except those in ``but``."""
    return [
        entry.name
        for entry in fields(config)
        if entry.name not in but and getattr(config, entry.name) != entry.default
    ]
