"""Let ONNX Runtime optimize a file, and write down the graph that it would execute.

This is also a program, which knows nothing but onnxruntime: for a file that nobody vouches for, a
child process with limits is safer than a session in one's own (see ``execution.executed_graph``).
"""

from __future__ import annotations

import resource
import sys

import onnxruntime as ort

MAX_MEMORY = 8 * 2**30
"""Address space in bytes; the threads' stacks and the runtime itself take the first GiB."""
MAX_SECONDS = 60
_SILENT = 4
"""Failures are raised; that the written graph suits this CPU only is what it is for."""


def open_and_write(source: str, destination: str) -> ort.InferenceSession:
    """Return a session on ``source``; its optimized graph is in the file ``destination``."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = destination
    options.intra_op_num_threads = 1
    options.log_severity_level = _SILENT
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    open_and_write(sys.argv[1], sys.argv[2])
