"""The loop of trials: propose, leave out the hopeless, make, measure, tell."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from exporter.config import BuildConfig
from exporter.errors import ConfigError, ExporterError
from exporter.progress import say
from exporter.tuning.bench import Bench, Dense
from exporter.tuning.frontier import Point
from exporter.tuning.plan import SLACK
from exporter.tuning.space import Values, chosen_by
from exporter.tuning.study import EXCESS, MACHINE, YARDSTICK_MS, same_choice
from exporter.tuning.wish import Wish

MOST_REPEATS = 30
"""Proposals in a row that were there before; then little is left to find."""


def search(study: optuna.Study, bench: Bench, wish: Wish) -> None:
    """Run trials until the time is up, their number is reached, or nothing new is proposed.

    Raises:
        ConfigError: the study's times were measured on another machine.
        ExporterError: the dense network that all trials are compared with cannot be had.
    """
    if study.user_attrs[MACHINE] != bench.machine:
        raise ConfigError(
            "The times of this search were measured on another processor or with another ONNX "
            "Runtime; results of two machines are not ranked together. Start one with another "
            "--storage or --out here."
        )
    worker = _Worker(study=study, bench=bench, wish=wish)
    bench.dense(worker.first())  # what is wrong with all trials is wrong with the request
    try:
        study.optimize(
            worker.run,
            n_trials=wish.trials or None,
            timeout=wish.seconds,
            catch=(ExporterError,),
        )
    except KeyboardInterrupt:
        if worker.choosing:  # whoever goes on begins with it
            study.enqueue_trial(dict(worker.choosing))
        raise


@dataclasses.dataclass(kw_only=True)
class _Worker:
    study: optuna.Study
    bench: Bench
    wish: Wish
    choosing: Values = dataclasses.field(default_factory=dict)
    repeats: int = 0

    def run(self, trial: optuna.Trial) -> tuple[float, float, float]:
        """Return accuracy on validation, milliseconds and 1000 bytes of what ``trial`` chooses."""
        started = time.perf_counter()
        values = self.choosing = chosen_by(trial, self.wish.widths)
        self._check_new(trial)
        try:
            dense = self.bench.dense(values)
            config = self.bench.configured(values)
            self._check_hopeful(trial, config, dense)
            self._check_promising(trial, config, dense)
            made = self.bench.make(config)
        except ConfigError as error:  # a share that cannot be reached, say
            raise _stop(trial, "impossible", str(error)) from error
        except ExporterError as error:
            trial.set_user_attr("error", str(error))
            say(f"Trial {trial.number}: {error}")
            raise
        yardstick = self.bench.dense(self.first())
        timed = self.bench.time(made.file, yardstick.file)
        ms = self._yardstick_ms(timed.yardstick_ms) / timed.ratio
        drop = yardstick.top1 - made.top1
        for name, value in {
            EXCESS: self.wish.excess(drop=drop, ms=ms, kb=made.kb),
            "drop": drop,
            "noise": timed.noise,
            "seconds": time.perf_counter() - started,
            "reused": made.reused,
            "stages": made.stages,
        }.items():
            trial.set_user_attr(name, value)
        say(
            f"Trial {trial.number}: {made.top1:.2f} % on validation, {ms:.3f} ms, "
            f"{made.kb:.0f} kB ({describe(values)}); {made.reused} of {made.stages} stages reused."
        )
        self.choosing = {}
        return made.top1, ms, made.kb

    def first(self) -> Values:
        """Return the choice of the network that all trials are compared with."""
        return {"widths": self.wish.widths[0]} if len(self.wish.widths) > 1 else {}

    def _yardstick_ms(self, now: float) -> float:
        """What the yardstick takes, by the study's first measurement: times are ratios to it."""
        known = self.study.user_attrs.get(YARDSTICK_MS)
        if known is None:
            self.study.set_user_attr(YARDSTICK_MS, now)
            return now
        return float(known)

    def _check_new(self, trial: optuna.Trial) -> None:
        before = same_choice(self.study, trial)
        if before is None:
            self.repeats = 0
            return
        self.repeats += 1
        if self.repeats >= MOST_REPEATS:
            self.study.stop()
        trial.set_user_attr("as", before.number)
        raise optuna.TrialPruned(f"chosen before by trial {before.number}")

    def _check_hopeful(self, trial: optuna.Trial, config: BuildConfig, dense: Dense) -> None:
        """Stop before anything is pruned where the limits of time or bytes are out of reach."""
        if not (self.wish.max_ms or self.wish.max_kb) or self.bench.target.scheme != "int8":
            return
        expected = dense.planner.expected(config.prune.max_macs)
        for name, value, limit in (
            ("ms", expected.ms, self.wish.max_ms),
            ("kB", expected.kb, self.wish.max_kb),
        ):
            if limit and value > SLACK * limit:
                raise _stop(
                    trial, "hopeless", f"about {value:.3g} {name} expected, {limit:g} allowed"
                )

    def _check_promising(self, trial: optuna.Trial, config: BuildConfig, dense: Dense) -> None:
        """Fine-tune for a part of the time, and stop where others were far better by then.

        Others are those that are no more expensive in multiply-adds. Far is two standard errors of
        the difference of two accuracies on the validation images.
        """
        epochs = config.prune.finetune_epochs or dense.finetune_epochs
        quick = math.ceil(self.wish.quick_share * epochs)
        if not config.prune.max_macs or not 0 < quick < epochs:
            return
        short = dataclasses.replace(
            config, prune=dataclasses.replace(config.prune, finetune_epochs=quick)
        )
        made = self.bench.make(short)
        trial.set_user_attr("quick_top1", made.top1)
        trial.set_user_attr("quick_macs", config.prune.max_macs)
        rival = max(
            (
                float(other.user_attrs["quick_top1"])
                for other in self.study.get_trials(deepcopy=False)
                if other.number != trial.number
                and other.user_attrs.get("quick_macs", math.inf) <= config.prune.max_macs
            ),
            default=0.0,
        )
        share = rival / 100
        if made.top1 < rival - 200 * math.sqrt(2 * share * (1 - share) / dense.images):
            raise _stop(
                trial,
                "behind",
                f"{made.top1:.2f} % after {quick} of {epochs} epochs, a smaller one had "
                f"{rival:.2f} %",
            )


def points(study: optuna.Study) -> tuple[Point, ...]:
    """Return the trials that were measured to the end, in order."""
    return tuple(
        _point(trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    )


def outcomes(study: optuna.Study) -> dict[str, int]:
    """Return how many trials ended in which way."""
    counted = {
        "measured": 0,
        "hopeless": 0,
        "behind": 0,
        "impossible": 0,
        "repeated": 0,
        "failed": 0,
    }
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.COMPLETE:
            counted["measured"] += 1
        elif trial.state == TrialState.PRUNED:
            counted[trial.user_attrs.get("stopped", "repeated")] += 1
        elif trial.state == TrialState.FAIL:
            counted["failed"] += 1
    return counted


def describe(values: Values) -> str:
    """Return choices in a few words."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def _point(trial: FrozenTrial) -> Point:
    top1, ms, kb = trial.values
    excess: Sequence[float] = trial.user_attrs[EXCESS]
    return Point(
        trial=trial.number,
        values=dict(trial.params),
        top1=top1,
        drop=float(trial.user_attrs["drop"]),
        ms=ms,
        kb=kb,
        feasible=all(value <= 0 for value in excess),
        seconds=float(trial.user_attrs["seconds"]),
        reused=int(trial.user_attrs["reused"]),
        stages=int(trial.user_attrs["stages"]),
    )


def _stop(trial: optuna.Trial, how: str, why: str) -> optuna.TrialPruned:
    trial.set_user_attr("stopped", how)
    say(f"Trial {trial.number}: {why}; stopped.")
    return optuna.TrialPruned(why)
