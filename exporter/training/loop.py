"""The training loop: the whole dataset as one tensor, bf16 where the processor has it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.progress import track
from exporter.training.augmentation import Augmentation, augment, mirrored_in, normalise
from exporter.training.memory import keep_freed_memory
from exporter.training.optimizer import KernelAndRest
from exporter.training.resume import Epoch, Resume

WARM_UP = 0.15
"""Share of the steps in which the learning rate rises; it then falls in a line to zero."""
AVERAGED_STEPS = 40
"""Steps over which the exponential moving average of the weights reaches back."""
EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """Everything that shapes one call of ``fit``."""

    epochs: int
    minutes: float = 0.0
    """Where positive, the number of epochs follows from the speed of the first steps."""
    batch_size: int
    learning_rate: float
    label_smoothing: float
    augmentation: Augmentation
    seed: int
    distill: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """How a network learned."""

    epochs: tuple[Epoch, ...]
    images_per_second: float = field(compare=False)
    """Training images per second, evaluation left out."""


def device_for_training() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a bf16 autocast where the processor computes in bf16, else a context of no effect."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported() and _cpu_multiplies_bf16()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


def _cpu_multiplies_bf16() -> bool:
    """Without AVX512-BF16 or AMX, oneDNN emulates bf16 and is slower than fp32."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    if "AVX512" not in capabilities:
        return False
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(
        name in flags.read_text() for name in ("avx512_bf16", "amx_bf16")
    )


def fit(
    module: nn.Module,
    lesson: Lesson,
    contract: InputContract,
    train: Split,
    validation: Split,
    *,
    title: str,
    teacher: nn.Module | None = None,
    constrain: Callable[[], None] | None = None,
    keep_best: bool = False,
    resume: Path | None = None,
) -> History:
    """Train ``module`` in place and leave the averaged weights in it.

    The same lesson on the same machine gives the same weights to the bit, also when it was killed
    and continued: every epoch draws its random numbers from the seed and the epoch's number alone.

    Args:
        module: a network from normalised ``[N, 3, H, W]`` to logits; on return in eval mode, on
            the CPU.
        lesson: the budget and the recipe.
        contract: how bytes are normalised.
        train: images to learn from.
        validation: images that are only watched, unless ``keep_best`` chooses by them.
        title: what the progress line says.
        teacher: a trained network whose softened opinion joins the labels (Hinton et al. 2015,
            arXiv 1503.02531).
        constrain: called after every step, for instance to keep masked weights at zero.
        keep_best: leave the averaged weights of the epoch that was best on ``validation``, the
            later one of equals, instead of the last epoch's.
        resume: folder for the state of a killed run.
    """
    keep_freed_memory()
    device = device_for_training()
    _move(module, device).train()
    if teacher is not None:
        _move(teacher, device).eval()
    raw_images, raw_labels = train.arrays()
    images = torch.from_numpy(raw_images.copy()).to(device)
    labels = torch.from_numpy(raw_labels).to(device)
    batch_size = min(lesson.batch_size, max(2, math.ceil(train.count / 16)))
    steps_per_epoch = max(1, train.count // batch_size)

    optimizer = KernelAndRest(module)
    average = AveragedModel(
        module, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / AVERAGED_STEPS), use_buffers=True
    )
    best = copy.deepcopy(average.module) if keep_best else average.module
    parts = {"module": module, "average": average} | ({"best": best} if keep_best else {})
    state = Resume(resume, parts, optimizer)
    done = state.load()
    epochs = state.planned or lesson.epochs

    speed = _Speed()
    with track(title, float(epochs * steps_per_epoch)) as advance:
        advance(len(done) * steps_per_epoch, "")
        epoch = len(done)
        while epoch < epochs or not done:
            generator = torch.Generator().manual_seed(lesson.seed * 1_000_003 + epoch)
            order = torch.randperm(train.count, generator=generator)
            mirrored = mirrored_in(epoch, train.count, lesson.seed)
            total_loss = 0.0
            for step in range(steps_per_epoch):
                speed.start()
                picked = order[step * batch_size : (step + 1) * batch_size]
                batch = augment(
                    images, picked, lesson.augmentation, contract.zero_point, generator, mirrored
                )
                loss = _loss(module, teacher, batch, labels[picked.to(device)], lesson, contract)
                torch.autograd.backward(loss)
                progress = (epoch * steps_per_epoch + step) / (epochs * steps_per_epoch)
                optimizer.step(lesson.learning_rate * _schedule(progress))
                if constrain is not None:
                    constrain()
                average.update_parameters(module)
                total_loss += loss.item()
                speed.stop(len(picked))
                if lesson.minutes and not state.planned and speed.settled:
                    affordable = lesson.minutes * 60 * speed.images_per_second
                    state.planned = max(1, int(affordable / (steps_per_epoch * batch_size)))
                    epochs = state.planned
                advance(1, f"loss {total_loss / (step + 1):.3f}")
            # What is only watched may be rounded; what is compared or reported is exact.
            watched = not keep_best and epoch + 1 < epochs
            top1 = evaluate(average.module, contract, validation, quick=watched)
            done.append(Epoch(loss=total_loss / steps_per_epoch, validation_top1=top1))
            if keep_best and top1 == max(entry.validation_top1 for entry in done):
                best.load_state_dict(average.module.state_dict())
            advance(0, f"validation {top1:.2f} %")
            epoch += 1
            state.save(done)

    module.load_state_dict(best.state_dict())
    module.to("cpu").to(memory_format=torch.contiguous_format).eval()
    if teacher is not None:
        teacher.to("cpu").to(memory_format=torch.contiguous_format)
    return History(epochs=tuple(done), images_per_second=speed.images_per_second)


def _move(module: nn.Module, device: torch.device) -> nn.Module:
    """Channels-last memory: the layout in which convolutions are fastest, and that of the data."""
    return module.to(device).to(memory_format=torch.channels_last)


def _schedule(progress: float) -> float:
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 - progress) / (1 - WARM_UP)


def _loss(
    module: nn.Module,
    teacher: nn.Module | None,
    batch: Tensor,
    labels: Tensor,
    lesson: Lesson,
    contract: InputContract,
) -> Tensor:
    pixels = normalise(batch, contract)
    with autocast(pixels.device):
        logits = module(pixels).float()
    loss = functional.cross_entropy(logits, labels, label_smoothing=lesson.label_smoothing)
    if teacher is None or not lesson.distill:
        return loss
    with torch.no_grad(), autocast(pixels.device):
        opinion = teacher(pixels).float()
    softened = functional.kl_div(
        functional.log_softmax(logits / lesson.temperature, 1),
        functional.log_softmax(opinion / lesson.temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - lesson.distill) * loss + lesson.distill * lesson.temperature**2 * softened


@torch.no_grad()
def evaluate(
    module: nn.Module, contract: InputContract, split: Split, *, quick: bool = False
) -> float:
    """Return the top-1 of ``module`` on ``split`` in percent.

    Computed in float32, or, where ``quick`` is set, as ``autocast`` computes.
    """
    training = module.training
    module.eval()
    device = next(module.parameters()).device
    images, labels = split.arrays()
    correct = 0
    for start in range(0, split.count, EVALUATION_BATCH):
        raw = torch.from_numpy(images[start : start + EVALUATION_BATCH].copy()).to(device)
        with autocast(device) if quick else nullcontext():
            predicted = module(normalise(raw, contract)).argmax(1).cpu()
        correct += int((predicted == torch.from_numpy(labels[start : start + len(raw)])).sum())
    module.train(training)
    return 100.0 * correct / split.count


class _Speed:
    """Images per second over the training steps; the first few are warm-up and don't count."""

    WARM_UP_STEPS = 3
    SETTLED_STEPS = 12

    def __init__(self) -> None:
        self._steps = 0
        self._images = 0
        self._seconds = 0.0
        self._started = 0.0

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self, images: int) -> None:
        self._steps += 1
        if self._steps > self.WARM_UP_STEPS:
            self._seconds += time.perf_counter() - self._started
            self._images += images

    @property
    def settled(self) -> bool:
        return self._steps >= self.SETTLED_STEPS

    @property
    def images_per_second(self) -> float:
        return self._images / self._seconds if self._seconds else 0.0
