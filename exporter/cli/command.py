"""Turns a function into a command, with the options that its config declares.

A command asks for what it needs by the names of its parameters: ``config`` brings the options of
the named parts of ``BuildConfig`` and ``--recipe``; ``cache`` brings ``--cache`` and ``--quiet``.
All commands have ``--json``. Nothing here imports torch, onnxruntime or numpy.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from exporter.artifacts import Cache, cache_folder
from exporter.cli.answer import Answer, show
from exporter.cli.options import config_parameters, tables_from
from exporter.cli.session import session
from exporter.config import BuildConfig
from exporter.option import check_limits
from exporter.targets import find_target

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress on stderr.")]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Take options from a recipe; those given on the command line win. \\[default: none]",
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        envvar="EXPORTER_CACHE",
        help="Where results of stages are kept for later runs. "
        "\\[default: edge-exporter in $XDG_CACHE_HOME or in ~/.cache]",
    ),
]


def command(*parts: str) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """Return a decorator that makes a Typer command of a function.

    Args:
        *parts: What the command takes of ``BuildConfig``: a table's options, or a single one, as
            ``prune.criterion``.
    """
    config_options = config_parameters(parts)

    def decorate(function: Callable[..., Answer]) -> Callable[..., None]:
        own = dict(inspect.signature(function, eval_str=True).parameters)
        wants_config, wants_cache = own.pop("config", None), own.pop("cache", None)

        def run(**given: Any) -> None:
            as_json, quiet = given.pop("json"), given.pop("quiet", False)
            with session(quiet):
                if wants_config:
                    given["config"] = _resolved(given.pop("recipe"), tables_from(parts, given))
                if wants_cache:
                    given["cache"] = Cache(cache_folder(given.pop("cache"), os.environ))
                answer = function(**given)
            show(answer, as_json)
            if answer.code:
                raise typer.Exit(answer.code)

        parameters = [*own.values()]
        if wants_config:
            parameters += [*config_options, _parameter("recipe", RecipeFile, None)]
        if wants_cache:
            parameters.append(_parameter("cache", CacheFolder, None))
            parameters.append(_parameter("quiet", Quiet, False))
        parameters.append(_parameter("json", Json, False))
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # Typer reads it
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        )
        run.__annotations__ = {}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        return run

    return decorate


def _resolved(recipe: Path | None, given: Mapping[str, Any]) -> BuildConfig:
    """Return the config by the rule: command line over recipe over default."""
    from exporter.recipe import read_recipe, with_changes

    config = with_changes(read_recipe(recipe) if recipe else BuildConfig(), given)
    # The library checks these too, but only once torch is loaded; a typo is answered at once.
    check_limits(config)
    find_target(config.target)
    return config


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )
