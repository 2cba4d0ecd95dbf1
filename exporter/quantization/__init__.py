"""From a float ONNX model and its ranges to a statically quantized int8 model."""
