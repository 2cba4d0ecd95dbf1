"""Outputs in another order, or of more classes, than the data has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from exporter.contract import OUTPUT_NAME
from exporter.errors import ConfigError
from exporter.graph.wiring import Wiring, int_attribute, replace_nodes


def read_names(path: Path) -> tuple[str, ...]:
    """Return the lines of a file of class names; raises ConfigError if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(
            f"--classes is {path}, which cannot be read: {error.strerror}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--classes is {path}, which is not a text in UTF-8.") from error
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if not names:
        raise ConfigError(f"--classes is {path}, which is empty; it needs one name per line.")
    return names


def rows_of(names: tuple[str, ...], classes: tuple[str, ...]) -> list[int]:
    """Return which output belongs to each of the data's classes.

    Raises:
        ConfigError: a class has no output, or two.
    """
    for wanted in classes:
        if names.count(wanted) != 1:
            found = f"stands there {names.count(wanted)} times" if wanted in names else "is missing"
            raise ConfigError(
                f"--classes must name each class of the data once, but {wanted!r} {found} among "
                f"the {len(names)} names."
            )
    return [names.index(wanted) for wanted in classes]


def select_rows(core: ModelProto, rows: list[int]) -> None:
    """Leave of the logits those in ``rows``, in that order, in place.

    A matrix product at the end loses its other rows; behind anything else there will be a Gather.
    """
    graph = core.graph
    wiring = Wiring.of(graph)
    last = wiring.producer[OUTPUT_NAME]
    tensors = [wiring.constants.get(name) for name in last.input[1:]]
    if last.op_type == "Gemm" and all(tensors):
        axes = [0 if int_attribute(last, "transB", 0) else 1, -1]
        for place, (tensor, axis) in enumerate(zip(tensors, axes, strict=False), start=1):
            assert tensor is not None
            values = numpy_helper.to_array(tensor)
            if place == 2 and (values.ndim == 0 or values.shape[-1] == 1):
                continue  # one number for all classes
            chosen = numpy_helper.from_array(np.take(values, rows, axis), f"{tensor.name}_chosen")
            graph.initializer.append(chosen)
            last.input[place] = chosen.name
    else:
        indices = numpy_helper.from_array(np.array(rows, np.int64), f"{OUTPUT_NAME}_rows")
        graph.initializer.append(indices)
        last.output[:] = [
            f"{OUTPUT_NAME}_all" if name == OUTPUT_NAME else name for name in last.output
        ]
        graph.node.append(
            helper.make_node("Gather", [f"{OUTPUT_NAME}_all", indices.name], [OUTPUT_NAME], axis=1)
        )
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(rows)
    replace_nodes(core, graph.node)
