"""ONNX graphs: export, rewrites, checks and what a file holds."""
