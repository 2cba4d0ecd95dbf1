"""Which output of a network tells the classes apart, down to its logits."""

from __future__ import annotations

from onnx import ModelProto, TensorProto, helper

from exporter.config import IntakeConfig
from exporter.contract import OUTPUT_NAME
from exporter.errors import ConfigError, GraphError
from exporter.graph.wiring import Shape, Wiring, replace_nodes, static_shapes
from exporter.intake.names import rename

KEEP_ORDER = ("Identity", "Flatten", "Reshape", "Squeeze", "Cast", "Softmax", "LogSoftmax")
"""Operators behind the logits that leave the order of the classes as it is."""
SOFTMAX = ("Softmax", "LogSoftmax")


def keep_output(model: ModelProto, config: IntakeConfig, classes: int) -> None:
    """Leave one output, and only the nodes that it needs.

    Args:
        model: its input has a fixed shape.
        config: what the user states about it.
        classes: how many there are.

    Raises:
        ConfigError: ``--output`` names none, or must name one and does not.
        GraphError: worded to follow the file's name: the output is not of float numbers.
    """
    outputs = {info.name: info for info in model.graph.output}
    name = config.output or next(iter(outputs))
    if name not in outputs:
        raise ConfigError(f"--output is {name!r}, but the file's outputs are {', '.join(outputs)}.")
    if not config.output and len(outputs) > 1:
        shapes = static_shapes(model)
        fitting = [name for name in outputs if _columns(shapes.get(name, ())) == classes]
        if len(fitting) != 1:
            raise ConfigError(
                f"The file has the outputs {', '.join(outputs)}. Say which one holds a number for "
                "each class with --output."
            )
        (name,) = fitting
    if outputs[name].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise GraphError(f"gives no float numbers in {name!r}; --output names another output.")
    _set_output(model, name)
    drop_unused(model)


def drop_softmax(model: ModelProto) -> bool:
    """Remove a softmax at the very end, if there is one; return whether there was.

    Logits and probabilities name the same class, and logits keep their resolution in int8.
    """
    wiring = Wiring.of(model.graph)
    reader = None
    name = model.graph.output[0].name
    while (node := wiring.producer.get(name)) is not None and node.op_type in KEEP_ORDER:
        if node.op_type in SOFTMAX and len(wiring.readers.get(node.output[0], [])) <= 1:
            if reader is None:
                _set_output(model, node.input[0])
            else:
                reader.input[0] = node.input[0]
            replace_nodes(model, [other for other in model.graph.node if other != node])
            return True
        reader, name = node, node.input[0]
    return False


def use_logits(model: ModelProto, classes: int, batch: int) -> None:
    """Give the output its contract's name, type and shape ``[batch, classes]``.

    Outputs of shape [batch, classes, 1, 1] are flattened.

    Args:
        model: its input has a fixed shape of ``batch`` images; no tensor is called ``logits``.
        classes: how many there must be.
        batch: number of images.

    Raises:
        GraphError: worded to follow the file's name: the output is no classifier's, or one of
            another number of classes.
    """
    name = model.graph.output[0].name
    shape = static_shapes(model).get(name, ())
    columns = _columns(shape)
    if columns is None or shape[0] != batch:
        raise GraphError(
            f"gives {_text(shape)} in {name!r} for {batch} images, but a classifier gives one row "
            f"of numbers for each. Only classifiers can be built; --output names another output, "
            "and `exporter quantize --task any` takes any."
        )
    if columns != classes:
        raise GraphError(
            f"tells {columns} classes apart, but the data has {classes}. Its outputs must be the "
            "data's folders in alphabetical order, or named by --classes FILE."
        )
    if len(shape) == 2:
        rename(model, {name: OUTPUT_NAME})
    else:
        last = helper.make_node("Flatten", [name], [OUTPUT_NAME], axis=1)
        model.graph.node.append(last)
    _set_output(model, OUTPUT_NAME, [batch, classes])


def _set_output(model: ModelProto, name: str, shape: list[int] | None = None) -> None:
    del model.graph.output[:]
    model.graph.output.extend([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)])


def _columns(shape: Shape) -> int | None:
    """Return how many numbers there are per image, None where the shape is no classifier's."""
    if len(shape) < 2 or any(size != 1 for size in shape[2:]):
        return None
    return shape[1]


def _text(shape: Shape) -> str:
    return f"[{', '.join(str(size or '?') for size in shape)}]" if shape else "another shape"


def drop_unused(model: ModelProto) -> None:
    """Remove the nodes that no output needs."""
    needed = {info.name for info in model.graph.output}
    nodes = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    replace_nodes(model, reversed(nodes))
