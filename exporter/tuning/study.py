"""The search as Optuna keeps it: where trials are stored, who proposes them, who takes part."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from exporter.errors import ConfigError
from exporter.tuning.space import FIRST, WIDTHS
from exporter.tuning.wish import Wish

HEARTBEAT, GRACE = 20, 60
"""Seconds between two signs of life of a running trial, and after which silence means death."""
RETRIES = 3
RECIPE, WISH, MACHINE, YARDSTICK_MS = "recipe", "wish", "machine", "yardstick_ms"
"""What a study carries, so that others can join it."""
EXCESS = "excess"
"""By how much a trial passes each limit."""
WARM_UP = 12
"""Trials at random before the sampler begins to model what is good."""


def open_study(storage: str, name: str, wish: Wish | None) -> optuna.Study:
    """Return the study called ``name`` at ``storage``, made anew where ``wish`` is given.

    Args:
        storage: a URL of SQLAlchemy, such as ``sqlite:///search.db`` or
            ``postgresql+psycopg://user@host/database``; or ``grpc://host:port`` of Optuna's proxy.
        name: the study's.
        wish: what is searched for; None joins a search that is there.

    Raises:
        ConfigError: the storage cannot be reached, or has no study of that name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experimental features, meant for developers
        try:
            place = _storage(storage)
            if wish is None:
                return optuna.load_study(study_name=name, storage=place)
            return optuna.create_study(
                study_name=name,
                storage=place,
                sampler=sampler(wish.seed),
                directions=["maximize", "minimize", "minimize"],
                load_if_exists=True,
            )
        except KeyError as error:
            raise ConfigError(f"There is no search called {name!r} at {storage}.") from error
        except Exception as error:  # drivers, databases and gRPC raise what they like
            detail = " ".join(str(error).split())[:200]
            raise ConfigError(f"--storage {storage} cannot be used: {detail}") from error


def begin(study: optuna.Study, recipe: str, wish: Wish, machine: str) -> None:
    """Write down what a new study is about, and queue what is tried first.

    Raises:
        ConfigError: a study of this name is there and is about something else.
    """
    found = study.user_attrs
    if RECIPE not in found:
        study.set_user_attr(WISH, json.dumps(_lasting(wish)))
        study.set_user_attr(MACHINE, machine)
        study.set_user_attr(RECIPE, recipe)
        for values in FIRST:
            widths = {WIDTHS: wish.widths[0]} if len(wish.widths) > 1 else {}
            study.enqueue_trial({**widths, **values})
        return
    if found[RECIPE] != recipe or json.loads(found[WISH]) != _lasting(wish):
        raise ConfigError(
            "The search that is stored here asks for something else: other data, options or "
            "limits. Repeat its command to go on with it, or take another --out."
        )


def sampler(seed: int) -> optuna.samplers.BaseSampler:
    """Return what proposes trials: a multivariate tree of Parzen estimators.

    Source: Ozaki et al. 2022, "Multiobjective Tree-Structured Parzen Estimator", JAIR 73; limits
    are constraints of it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            n_startup_trials=WARM_UP,
            constraints_func=_constraints,
        )


def same_choice(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial | None:
    """Return a trial that chose the same before and has been told, None where there is none."""
    told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return next(
        (
            other
            for other in told
            if other.params == trial.params and not other.user_attrs.get("as")
        ),
        None,
    )


def _constraints(trial: FrozenTrial) -> Sequence[float]:
    found: Sequence[float] = trial.user_attrs.get(EXCESS, (0.0, 0.0, 0.0))
    return found


def _lasting(wish: Wish) -> dict[str, Any]:
    """What must not change while a search goes on; time and trials may."""
    return {
        "max_drop": wish.max_drop,
        "max_ms": wish.max_ms,
        "max_kb": wish.max_kb,
        "widths": list(wish.widths),
        "quick_share": wish.quick_share,
    }


def _storage(url: str) -> BaseStorage:
    if url.startswith("grpc://"):
        host, _, port = url.removeprefix("grpc://").partition(":")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port or 13000))
    return RDBStorage(
        url,
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
    )
