"""An inspection that also measures: how much the layers of a file saturate on real images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from exporter.artifacts import Artifact, Cache
from exporter.config import DataConfig
from exporter.data.load import load_splits
from exporter.data.size import Size
from exporter.errors import GraphError
from exporter.graph.inspect import Inspection, inspect_file
from exporter.quantization.audit import audit_saturation


def inspect_on_images(path: Path, data: str, cache: Cache) -> Inspection:
    """Return what is known about the file ``path``; saturation is measured where ``data`` is given.

    Args:
        path: a float or int8 .onnx file.
        data: digits, cifar10 or a folder of images, whose calibration images are used; or empty.
        cache: keeps the decoded images and the audit.

    Raises:
        GraphError: see ``inspect_file``; or the file does not say which images it takes.
        DataError: the images cannot be read.
    """
    seen = inspect_file(path)
    if not data:
        return seen
    contract = seen.contract
    if contract is None:
        raise GraphError(
            f"{path} does not say which images it takes; this program did not make it. Leave out "
            "--data."
        )
    size = str(Size(contract.height, contract.width))
    splits = load_splits(cache, DataConfig(data=data, size=size, resize=contract.resize))
    audit = cache.run(audit_saturation, Artifact.of(path), splits.calibration)
    return dataclasses.replace(seen, saturation=audit)
