"""A trained network that comes as somebody else's float ONNX file."""
