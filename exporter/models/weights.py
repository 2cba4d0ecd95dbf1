"""Weights that somebody else trained: read without running what is in the file, and matched.

safetensors, or a state dict that torch saved (zip or the older format, whatever its suffix), bare
or inside a training checkpoint. Only tensors and plain containers are unpickled
(``torch.load(weights_only=True)``); a file that asks for anything else is refused.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from exporter.errors import ModelError
from exporter.models.family import ModelRef
from exporter.progress import say

NESTED = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights",
    "state_dict_ema", "model_ema", "ema", "ema_state_dict", "params_ema", "module",
)  # fmt: skip
"""Where training scripts keep the state dict in their checkpoints; the first that is there wins."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""DataParallel, torch.compile, and wrappers such as Lightning's put these before every name."""
DEPTH = 3
"""A state dict lies at most so deep in a checkpoint."""
NAMED = 3
"""Tensors that a message names before it only counts."""
COUNTER = "num_batches_tracked"
"""Of batch-norms; not in files from before torch 0.4.1, and of no influence in inference."""
AVERAGED = "n_averaged"
"""What ``torch.optim.swa_utils.AveragedModel`` adds to the weights."""
AUXILIARY = {
    "torchvision:googlenet": ("aux1.", "aux2."),
    "torchvision:inception_v3": ("AuxLogits.",),
}
"""Classifiers that help in training only; torchvision's own files have them."""

State = Mapping[str, Tensor]


def load_weights(module: nn.Module, path: Path, model: ModelRef) -> None:
    """Fill ``module`` with the weights in the file ``path``, as float32 on the CPU.

    Raises:
        ModelError: the file is missing, damaged, of another kind, wants to run code, or its
            weights are not those of the network; the message names the first of each sort.
    """
    wanted = module.state_dict()
    state = _unprefixed(read_state(path), wanted)
    auxiliary = tuple(name for name in state if name.startswith(AUXILIARY.get(model.name, ())))
    state = {name: tensor for name, tensor in state.items() if name not in (*auxiliary, AVERAGED)}
    if auxiliary:
        say(f"{path.name}: {len(auxiliary)} tensors of auxiliary classifiers are left out.")
    _check_fit(state, wanted, path, model)
    module.load_state_dict({**{name: wanted[name] for name in wanted.keys() - state}, **state})


def read_state(path: Path) -> State:
    """Return the state dict in the file ``path``; raises ModelError like ``load_weights``."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ModelError(f"Cannot read the weights {path}: {error.strerror}.") from error
    if not start:
        raise ModelError(f"{path} is empty.")
    # A safetensors file starts with the length of its header, eight bytes, and the header's brace.
    content = _read_safetensors(path) if start[8:] == b"{" else _read_torch(path)
    return _state_in(content, path)


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} is a damaged or truncated safetensors file: {reason}.") from error


def _read_torch(path: Path) -> object:
    try:
        with path.open("rb") as file:  # by its name, torch would judge it by its suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wish = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wish is None:
            raise ModelError(_unreadable(path)) from error
        raise ModelError(
            f"{path} is refused: besides tensors it holds Python objects ({wish[1]}), and code "
            "would run to load them; none was run. Save the weights alone where they were made: "
            "torch.save(model.state_dict(), FILE), or use safetensors."
        ) from error
    except Exception as error:  # every layer of a broken file fails in its own way
        raise ModelError(_unreadable(path)) from error


def _unreadable(path: Path) -> str:
    return (
        f"{path} is no file of weights, or a damaged or truncated one. It must be safetensors, or "
        "a state dict saved by torch.save."
    )


def _state_in(content: object, path: Path) -> State:
    """Return the tensors of the state dict in ``content``, wherever a checkpoint keeps it."""
    here, trail = content, []
    for _ in range(DEPTH):
        if not isinstance(here, Mapping):
            break
        inner = [name for name in NESTED if isinstance(here.get(name), Mapping) and here[name]]
        if not inner:
            break
        if len(inner) > 1:
            others = ", ".join(repr(name) for name in inner[1:])
            say(f"{path.name} has weights in {inner[0]!r}, which are taken, and in {others}.")
        trail.append(inner[0])
        here = here[inner[0]]
    found = {
        str(name): tensor
        for name, tensor in (here.items() if isinstance(here, Mapping) else ())
        if isinstance(tensor, Tensor)
    }
    if not found:
        keys = f" with {_some(map(str, here))}" if isinstance(here, Mapping) and here else ""
        inside = f"{path}{''.join(f'[{name!r}]' for name in trail)}"
        raise ModelError(
            f"{inside} holds no state dict, but a {type(here).__name__}{keys}. "
            "Save torch.save(model.state_dict(), FILE)."
        )
    return found


def _unprefixed(state: State, wanted: State) -> State:
    """Take off what wrappers put before the names, unless the network has such names itself."""
    changed = True
    while changed:
        changed = False
        for prefix in PREFIXES:
            wrapped = any(name.startswith(prefix) for name in state)
            if wrapped and not any(name.startswith(prefix) for name in wanted):
                state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
                changed = True
    return state


def _check_fit(state: State, wanted: State, path: Path, model: ModelRef) -> None:
    missing = [n for n in wanted if n not in state and not n.endswith(COUNTER)]
    unexpected = [name for name in state if name not in wanted]
    other_shape = [n for n in state if n in wanted and state[n].shape != wanted[n].shape]
    if other_shape and not missing and not unexpected:
        _check_head(state, wanted, other_shape, path)
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (
                [f"{n} is {_shape(state[n])}, not {_shape(wanted[n])}" for n in other_shape],
                "of another shape",
            ),
        )
        if names
    ]
    if problems:
        raise ModelError(
            f"{path} does not fit {model.name}: {'; '.join(problems)}. Is it another network, or "
            "one with other arguments (--model-arg)?"
        )
    broken = [name for name in state if not bool(torch.isfinite(state[name]).all())]
    if broken:
        raise ModelError(f"{path} holds values that are not finite: {_some(broken)}.")


def _check_head(state: State, wanted: State, other_shape: list[str], path: Path) -> None:
    """Raise ModelError if nothing but the number of outputs differs."""
    sizes = {(len(state[n]), len(wanted[n])) if state[n].ndim else (0, 0) for n in other_shape}
    same_inputs = all(state[n].shape[1:] == wanted[n].shape[1:] for n in other_shape)
    if len(sizes) == 1 and same_inputs and len(other_shape) <= 2:
        ((theirs, ours),) = sizes
        raise ModelError(
            f"The classifier in {path} ({other_shape[0]}) tells {theirs} classes apart, but the "
            f"data has {ours}. Use --data with the classes it was trained on, or weights that were "
            "trained on these."
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - NAMED
    return ", ".join(listed[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
