"""Networks that are not in the table: torchvision's, or made by a function of the user's.

    torchvision:resnet18            a network of torchvision
    path/to/file.py:factory         a function (or class) in a file
    package.module:factory          a function (or class) in an installed package

A user's factory is code that runs here, with all rights of who runs it. It may change between two
runs; what was trained with one network is not to be loaded into another one unnoticed, so that the
source is part of the reference, by content.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from torch import nn

from exporter.artifacts import sha256_of
from exporter.errors import ExporterError, ModelError
from exporter.models.arguments import parse_arguments
from exporter.models.family import ModelRef

TORCHVISION = "torchvision"
FORMS = {
    "torchvision:NAME": "a network of torchvision; options of it by --model-arg",
    "path/to/file.py:FUNCTION": "your own: a function or class in a file, which is run",
    "package.module:FUNCTION": "a function or class in an installed package, which is run",
}
ANY_FORM = ", ".join(FORMS)
CLASS_COUNT = ("num_classes", "classes", "n_classes", "nb_classes", "num_labels")
"""What factories call the number of classes; the first one that a factory takes is filled in."""
_ALONE = {"aux_logits": False, "transform_input": False, "init_weights": True}
_TORCHVISION_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    # Their auxiliary classifiers would be further outputs in training; their default for
    # init_weights is announced to change. Pixels are normalised by the contract alone.
    "googlenet": _ALONE,
    "inception_v3": _ALONE,
}

Factory = Callable[..., object]


def is_foreign(name: str) -> bool:
    """Return whether ``name`` is of one of the forms above, rather than a name in the table."""
    return ":" in name


def short_name(name: str) -> str:
    """Return a name for files and titles: ``resnet18`` for ``torchvision:resnet18``."""
    return name.rpartition(":")[2]


def find_foreign(name: str, arguments: tuple[str, ...]) -> ModelRef:
    """Return the reference to a network outside the table; the user's code is run to find it.

    Raises:
        ConfigError: an argument is not NAME=VALUE.
        ModelError: there is no such network, file or function.
    """
    parse_arguments(arguments)
    place, _, function = name.rpartition(":")
    if not place or not function:
        raise ModelError(f"--model is {name!r}, but must be one of: {ANY_FORM}.")
    source = Path()
    if place.endswith(".py"):
        source = Path(place).expanduser().resolve()
        if not source.is_file():
            raise ModelError(f"{source} is not a file. --model takes {ANY_FORM}.")
    elif place != TORCHVISION:
        source = _origin(place)
    ref = ModelRef(
        name=name,
        arguments=arguments,
        source=str(source) if source.name else "",
        sha256=sha256_of(source) if source.name else "",
    )
    _factory(ref)
    return ref


def build_foreign(ref: ModelRef, classes: int) -> nn.Module:
    """Return the network that ``ref`` describes, for ``classes`` classes where it can be told.

    Raises:
        ModelError: the source is gone or has changed, or the factory fails.
    """
    factory = _factory(ref)
    given = parse_arguments(ref.arguments)
    count = _class_count(ref, factory)
    with _one_line(f"{ref.name} cannot be built"):
        module = factory(**({count: classes} if count and count not in given else {}), **given)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{ref.name} returns a {type(module).__name__}, but must return a Module.")
    return module


def class_argument(ref: ModelRef) -> str | None:
    """Return the factory's parameter for the number of classes, or None if it has none."""
    return _class_count(ref, _factory(ref))


def _class_count(ref: ModelRef, factory: Factory) -> str | None:
    if _is_torchvision(ref):
        return CLASS_COUNT[0]
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # written in C
        return None
    return next((name for name in CLASS_COUNT if name in parameters), None)


def _is_torchvision(ref: ModelRef) -> bool:
    return ref.name.partition(":")[0] == TORCHVISION


def _factory(ref: ModelRef) -> Factory:
    place, _, name = ref.name.rpartition(":")
    if _is_torchvision(ref):
        return _torchvision_factory(ref, name)
    if place.endswith(".py"):
        module = _module_in(_unchanged_source(ref), ref.sha256)
    else:
        source = _origin(place)
        if sha256_of(source) != ref.sha256:
            raise ModelError(_changed(source))
        with _one_line(f"{place} cannot be imported"):
            module = importlib.import_module(place)
    factory: Factory | None = getattr(module, name, None)
    if not callable(factory):
        found = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        close = get_close_matches(name, found) or found[:5]
        known = f" It has {', '.join(close)}." if close else ""
        raise ModelError(f"{place} has no function or class {name!r}.{known}")
    return factory


def _torchvision_factory(ref: ModelRef, name: str) -> Factory:
    try:
        from torchvision import models
    except ImportError as error:
        raise ModelError(
            f"--model {ref.name} needs torchvision. Install it with: pip install torchvision."
        ) from error
    known = models.list_models()
    if name not in known:
        close = get_close_matches(name, known) or ["resnet18", "mobilenet_v2"]
        raise ModelError(f"torchvision has no network {name!r}. Close: {', '.join(close)}.")
    given = parse_arguments(ref.arguments)
    if "weights" in given or "weights_backbone" in given:
        raise ModelError(
            f"--model-arg weights would make {ref.name} fetch weights whenever it is built. Save "
            "their state dict and use --weights FILE."
        )
    builder: Factory = models.get_model_builder(name)
    fixed: dict[str, object] = {"weights": None, **_TORCHVISION_DEFAULTS.get(name, {})}
    if "weights_backbone" in inspect.signature(builder).parameters:
        fixed["weights_backbone"] = None
    return lambda **arguments: builder(**{**fixed, **arguments})


def _origin(place: str) -> Path:
    """Return the file of a module without running it; its packages are imported, though."""
    try:
        spec = importlib.util.find_spec(place)
    except Exception:  # whatever the packages around it raise
        spec = None
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise ModelError(
            f"There is no module {place!r} with a file. Install it, or use {ANY_FORM}."
        )
    return Path(spec.origin)


def _unchanged_source(ref: ModelRef) -> Path:
    """Return the file the network was made from, where it was or where it is called from now."""
    places = [Path(ref.source), Path(ref.name.rpartition(":")[0]).expanduser().resolve()]
    found = [path for path in places if path.is_file()]
    if not found:
        raise ModelError(
            f"{ref.source} is gone, but {ref.name} is built by it. Put it back "
            f"(sha256 {ref.sha256[:12]}…)."
        )
    same = [path for path in found if sha256_of(path) == ref.sha256]
    if not same:
        raise ModelError(_changed(found[0]))
    return same[0]


def _changed(path: Path) -> str:
    return (
        f"{path} has changed since this network was made with it. Bring the old file back, or "
        "train again."
    )


def _module_in(path: Path, sha256: str) -> types.ModuleType:
    """Run a user's file once per content; files beside it can be imported by it."""
    name = f"user_network_{sha256}"
    if name in sys.modules:
        return sys.modules[name]
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(_changed(path))
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and the like look their module up
    sys.path.append(str(path.parent))
    try:
        with _one_line(f"{path} cannot be run"):
            exec(compile(content, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one line that says where it comes from."""
    try:
        yield
    except ExporterError:
        raise
    except (Exception, SystemExit) as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        text = f"{what}: {type(error).__name__}: {reason}"
        raise ModelError(text.rstrip(": .") + ".") from error
