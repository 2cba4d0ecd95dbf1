"""The ladder: rungs of growing cost are climbed until the drop on validation images is in budget.

A rung tries one or more int8 models. Each is judged by the images that the float model gets right
and it does not, and the other way round; among equals the one wins whose logits moved least. What
is not better than the best so far is dropped. Test images are not looked at.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.artifacts import StageRun
from exporter.errors import GraphError
from exporter.graph.model import OnnxModel
from exporter.progress import say
from exporter.quantization.calibrate import Calibrated
from exporter.quantization.quantize import QuantizedModel
from exporter.report.not_measured import NotMeasured
from exporter.report.recovery import RecoveryAttempt, RecoveryResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """An int8 model, and all that it was made from."""

    model: OnnxModel
    """The float model."""
    ranges: Calibrated
    """Activation ranges of that model; ``int8.method`` says which were taken."""
    int8: QuantizedModel
    corrections: tuple[str, ...] = ()
    float_layers: tuple[str, ...] = ()
    """Layers that are not quantized, in graph order."""
    aware_epochs: int = 0
    """Epochs of quantization-aware fine-tuning."""


Judge = Callable[[QuantizedModel], RecoveryResult]


@dataclass(frozen=True, slots=True)
class Tried:
    """A solution and how it did."""

    solution: Solution
    result: RecoveryResult
    number: int
    """Position among the ladder's attempts."""

    @property
    def rank(self) -> tuple[int, float]:
        """The larger, the better."""
        return self.result.correct, -self.result.logit_error


@dataclass(kw_only=True, slots=True)
class Ladder:
    """What has been tried, and the best of it."""

    judge: Judge
    budget: float
    """Accepted drop in percentage points."""
    runs: Sequence[StageRun] = ()
    """The cache's record, which tells what was there already."""
    rung: str = ""
    """The one that is being climbed."""
    since: tuple[float, int] = (0.0, 0)
    """When the last attempt ended, and the stages that had been run by then: whatever is prepared
    for an attempt is part of what it costs."""
    attempts: list[RecoveryAttempt] = field(default_factory=list)
    _best: Tried | None = None

    @property
    def best(self) -> Tried:
        """The solution that ships unless something better is found."""
        assert self._best is not None, "the first rung finds a solution or raises"
        return self._best

    def begin(self, rung: str) -> None:
        """Start a rung."""
        self.rung = rung
        self.since = time.perf_counter(), len(self.runs)

    def enough(self, tried: Tried | None) -> bool:
        """Return whether ``tried`` is within the budget; what could not be done is not."""
        return tried is not None and tried.result.drop_points <= self.budget

    def attempt(self, what: str, make: Callable[[], Solution]) -> Tried | None:
        """Make a solution and judge it; None if it cannot be made, with the reason on record.

        Args:
            what: says for a reader what is tried.
            make: raises GraphError where the graph does not allow it.
        """
        started, known = self.since
        solution: Solution | None = None
        result: RecoveryResult | NotMeasured
        try:
            solution = make()
            result = self.judge(solution.int8)
        except GraphError as error:
            if self._best is None:
                raise  # without any int8 model there is nothing to recover
            result = NotMeasured(not_measured=str(error))
        gain = None
        if self._best is not None and isinstance(result, RecoveryResult):
            gain = result.top1 - self._best.result.top1
        self.attempts.append(
            RecoveryAttempt(
                rung=self.rung,
                what=what,
                seconds=time.perf_counter() - started,
                cached=all(run.cached for run in self.runs[known:]),
                result=result,
                gain_points=gain,
                kept=False,
            )
        )
        self.since = time.perf_counter(), len(self.runs)
        say(f"Recovery, {self.rung}, {what}: {_told(result)}")
        if solution is None or isinstance(result, NotMeasured):
            return None
        return Tried(solution, result, len(self.attempts) - 1)

    def keep(self, tried: Tried) -> None:
        """Let ``tried`` be the best so far."""
        self._best = tried
        kept = dataclasses.replace(self.attempts[tried.number], kept=True)
        self.attempts[tried.number] = kept

    def keep_if_better(self, tried: Tried | None) -> bool:
        """Keep ``tried`` if it is better than the best so far; return whether the budget is met."""
        if tried is not None and (self._best is None or tried.rank > self._best.rank):
            self.keep(tried)
        return self.enough(self._best)


Rung = Callable[[Ladder], None]
"""Tries what it knows and keeps what is better; may stop as soon as the budget is met."""


def climb(ladder: Ladder, rungs: Mapping[str, Rung]) -> str:
    """Climb ``rungs`` in order until the budget is met; return in a sentence how it ended."""
    for name, rung in rungs.items():
        ladder.begin(name)
        rung(ladder)
        told = f"{_change(ladder.best.result)}, a loss of {ladder.budget:g} is allowed."
        if ladder.enough(ladder.best):
            return f"stopped at {name}: {told}"
    return f"went through all rungs: {told}"


def _change(result: RecoveryResult) -> str:
    drop = result.drop_points
    return f"{abs(drop):.2f} points {'gained' if drop < 0 else 'lost'}"


def _told(result: RecoveryResult | NotMeasured) -> str:
    if isinstance(result, NotMeasured):
        return f"not possible: {result.not_measured}"
    return (
        f"{result.top1:.2f} % on validation images, {_change(result)} against float, logit error "
        f"{100 * result.logit_error:.2f} %."
    )
