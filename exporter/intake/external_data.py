"""Weights that an ONNX file keeps in files beside it.

A path in a file that somebody else made may point anywhere. Only files in the folder of the ONNX
file and below are opened, and no more of them than a file of its own may hold.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import ExternalDataInfo

from exporter.errors import GraphError
from exporter.graph import limits


def external_files(model: ModelProto, folder: Path) -> tuple[Path, ...]:
    """Return the files beside a model in ``folder`` that hold its weights, in order of name.

    Raises:
        GraphError: worded to follow the file's name: a file lies outside the folder, is missing, or
            what is to be read from all of them is too much.
    """
    files: set[Path] = set()
    bytes_to_read = 0
    for tensor in _external_tensors(model):
        try:
            info = ExternalDataInfo(tensor)
        except ValueError as error:
            raise GraphError(f"keeps {tensor.name!r} at a place it cannot tell: {error}") from error
        file = folder / info.location
        # Resolved on both sides, so that a link out of the folder is one, and a folder that is
        # itself reached by a link is none.
        if not file.resolve().is_relative_to(folder.resolve()):
            raise GraphError(
                f"keeps {tensor.name!r} in {info.location!r}, outside its own folder; export it "
                "as one file."
            )
        if not file.is_file():
            raise GraphError(
                f"needs the file {file}, which is not there; copy it beside the model."
            )
        files.add(file)
        # Without a length, everything from the offset to the end belongs to the tensor.
        bytes_to_read += info.length if info.length is not None else file.stat().st_size
    if bytes_to_read > limits.MAX_BYTES:
        raise GraphError(
            f"keeps {bytes_to_read / 2**20:.0f} MiB in other files, more than the limit of "
            f"{limits.MAX_BYTES // 2**20} MiB."
        )
    return tuple(sorted(files))


def load_external_data(model: ModelProto, folder: Path) -> None:
    """Put the weights that ``external_files`` names into ``model`` itself.

    Raises:
        GraphError: worded to follow the file's name: a file is shorter than what should be in it.
    """
    if not external_files(model, folder):
        return
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except Exception as error:  # ValueError, OSError, and the checker's own
        detail = " ".join(str(error).split())
        raise GraphError(f"has weights in other files that cannot be read: {detail}") from error


def _external_tensors(model: ModelProto) -> list[TensorProto]:
    return [
        tensor
        for tensor in limits.stored_tensors(model.graph)
        if tensor.data_location == TensorProto.EXTERNAL
    ]
