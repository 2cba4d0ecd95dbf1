"""Does a file mean by its outputs what the images' labels mean?"""

from __future__ import annotations

import json
from collections.abc import Sequence

from exporter.artifacts import Artifact
from exporter.errors import GraphError
from exporter.verification.session import open_session

CLASSES = "classes"
"""The entry of a file's metadata that names them; ``exporter.graph.metadata`` writes it."""


def check_class_names(model: Artifact, classes: Sequence[str]) -> None:
    """Refuse a file that tells other classes apart than ``classes``, or in another order.

    A file of another tool, which does not say, passes; how many it has is seen from its logits.

    Args:
        model: the .onnx or .ort file.
        classes: names by label.

    Raises:
        CacheError: the file is not what it was.
        GraphError: the names differ, or the file cannot be loaded or does not keep the contract.
    """
    session = open_session(model, threads=1)
    written = session.get_modelmeta().custom_metadata_map.get(CLASSES)
    if written is None:
        return
    try:
        told = json.loads(written)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, list):
        raise GraphError(f"{model.path} has damaged class names in its metadata.")
    if len(told) != len(classes):
        raise GraphError(
            f"{model.path} tells {len(told)} classes apart, but the data has {len(classes)}."
        )
    for label, (ours, its) in enumerate(zip(classes, told, strict=True)):
        if ours != its:
            raise GraphError(
                f"{model.path} means {its!r} by output {label}, but the data calls that class "
                f"{ours!r}. Give --data whose classes have the names and order of the file's."
            )
