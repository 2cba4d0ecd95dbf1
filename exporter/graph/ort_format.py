"""ONNX Runtime's own file format, which its minimal builds for phones read.

The file holds the graph as ONNX Runtime's optimizer leaves it ("Fixed" style), since a minimal
build has no optimizer. This is what ``onnxruntime.tools.convert_onnx_models_to_ort`` does, with its
settings, but without its output on the terminal, and repeatable: ONNX Runtime 1.32 writes the table
of the operators' type names (``KernelTypeStrResolver``) in the order of a hash table that is seeded
anew in every process, so that table is written again here, sorted. All else is the same always.

    https://onnxruntime.ai/docs/performance/model-optimizations/ort-format-models.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from exporter.errors import GraphError

IDENTIFIER = b"ORTM"
_ERRORS_ONLY = 3
_ALIGNMENT = 16
"""Of whatever lies in the file, at most."""

TypeNames = Mapping[bytes, Mapping[bytes, Sequence[tuple[int, int]]]]
"""By operator (``domain:name:version``) and type name: the arguments that have this type, each as
input (0) or output (1), and its position."""


def write_ort(source: Path, destination: Path) -> str:
    """Write ``source``, an .onnx file, as ``destination``; return the operators that it needs.

    The same source gives the same bytes. The operators are told as ``--include_ops_by_config`` of
    ONNX Runtime's build reads them: one line per domain and version.

    Raises:
        GraphError: ONNX Runtime cannot load or convert the file.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.optimized_model_filepath = str(destination)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.qdqisint8allowed", "0")  # the same on every host
    try:
        ort.InferenceSession(
            str(source),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["NchwcTransformer"],  # its blocks are those of this CPU alone
        )
    except Exception as error:  # the runtime's exceptions have no base of their own
        detail = " ".join(str(error).split())
        raise GraphError(f"ONNX Runtime cannot convert {source} to its format: {detail}") from error
    data = with_sorted_type_names(destination.read_bytes())
    destination.write_bytes(data)
    return _required_operators(data)


def _required_operators(data: bytes) -> str:
    graph = _session(data).Model().Graph()
    required: dict[tuple[str, int], set[str]] = {}
    for index in range(graph.NodesLength()):
        node = graph.Nodes(index)
        domain = node.Domain().decode() or "ai.onnx"
        required.setdefault((domain, node.SinceVersion()), set()).add(node.OpType().decode())
    return "".join(
        f"{domain};{version};{','.join(sorted(operators))}\n"
        for (domain, version), operators in sorted(required.items())
    )


def with_sorted_type_names(data: bytes) -> bytes:
    """Return a file in ONNX Runtime's format with its table of type names in alphabetical order.

    A FlatBuffer is written from its end to its start, and refers only to what was there before. The
    model comes first, so it stays as it is, at the end; what lies in front of it is written anew.
    """
    from flatbuffers import Builder

    session = _session(data)
    table = session.Model()._tab
    start = min(table.Pos, table.Pos - table.Get(_signed(), table.Pos))  # its fields' places first
    model = data[start:]
    builder = Builder(2 * len(data))
    builder.head = len(builder.Bytes) - len(model)
    builder.Bytes[builder.head :] = model
    builder.Prep(_ALIGNMENT, 0)
    resolver = _write_type_names(builder, type_names(data))
    version = builder.CreateString(session.OrtVersion())
    fbs = _schema()
    fbs.InferenceSession.Start(builder)
    fbs.InferenceSession.AddOrtVersion(builder, version)
    fbs.InferenceSession.AddModel(builder, len(data) - table.Pos)
    fbs.InferenceSession.AddKernelTypeStrResolver(builder, resolver)
    builder.Finish(fbs.InferenceSession.End(builder), IDENTIFIER)
    return bytes(builder.Output())


def type_names(data: bytes) -> TypeNames:
    """Return the table of type names of a file in ONNX Runtime's format, sorted."""
    resolver = _session(data).KernelTypeStrResolver()
    found = {}
    for index in range(resolver.OpKernelTypeStrArgsLength()):
        operator = resolver.OpKernelTypeStrArgs(index)
        named = [operator.KernelTypeStrArgs(i) for i in range(operator.KernelTypeStrArgsLength())]
        found[operator.OpId()] = {
            entry.KernelTypeStr(): tuple(
                (entry.Args(i).ArgType(), entry.Args(i).Index()) for i in range(entry.ArgsLength())
            )
            for entry in sorted(named, key=lambda entry: entry.KernelTypeStr())
        }
    return dict(sorted(found.items()))


def _write_type_names(builder: Any, names: TypeNames) -> int:
    fbs = _schema()

    def vector(offsets: Sequence[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def argument(kind: int, position: int) -> int:
        fbs.ArgTypeAndIndex.Start(builder)
        fbs.ArgTypeAndIndex.AddArgType(builder, kind)
        fbs.ArgTypeAndIndex.AddIndex(builder, position)
        return int(fbs.ArgTypeAndIndex.End(builder))

    def type_name(name: bytes, arguments: Sequence[tuple[int, int]]) -> int:
        text, items = builder.CreateString(name), vector([argument(*pair) for pair in arguments])
        fbs.KernelTypeStrArgsEntry.Start(builder)
        fbs.KernelTypeStrArgsEntry.AddKernelTypeStr(builder, text)
        fbs.KernelTypeStrArgsEntry.AddArgs(builder, items)
        return int(fbs.KernelTypeStrArgsEntry.End(builder))

    def operator(name: bytes, entries: Mapping[bytes, Sequence[tuple[int, int]]]) -> int:
        text = builder.CreateString(name)
        items = vector([type_name(*entry) for entry in entries.items()])
        fbs.OpIdKernelTypeStrArgsEntry.Start(builder)
        fbs.OpIdKernelTypeStrArgsEntry.AddOpId(builder, text)
        fbs.OpIdKernelTypeStrArgsEntry.AddKernelTypeStrArgs(builder, items)
        return int(fbs.OpIdKernelTypeStrArgsEntry.End(builder))

    operators = vector([operator(*entry) for entry in names.items()])
    fbs.KernelTypeStrResolver.Start(builder)
    fbs.KernelTypeStrResolver.AddOpKernelTypeStrArgs(builder, operators)
    return int(fbs.KernelTypeStrResolver.End(builder))


def _session(data: bytes) -> Any:
    return _schema().InferenceSession.InferenceSession.GetRootAs(data)


def _schema() -> Any:
    """Return readers and writers of onnxruntime/core/flatbuffers/schema/ort.fbs."""
    import_module("onnxruntime.tools.ort_format_model")  # puts them on the path
    return import_module("ort_flatbuffers_py.fbs")


def _signed() -> Any:
    from flatbuffers.number_types import SOffsetTFlags

    return SOffsetTFlags
