"""Why an operator has no integer kernel, and what to use in its place.

Measured on ONNX Runtime 1.32, CPU.
"""

from __future__ import annotations

_USE_RELU = "use ReLU or ReLU6"
_REASONS = {
    "HardSigmoid": f"(part of HardSwish) has no int8 kernel; {_USE_RELU}",
    "HardSwish": f"has no int8 kernel; {_USE_RELU}",
    "PRelu": f"has no int8 kernel; {_USE_RELU}",
    "Elu": f"has no int8 kernel; {_USE_RELU}",
    "Selu": f"has no int8 kernel; {_USE_RELU}",
    "Celu": f"has no int8 kernel; {_USE_RELU}",
    "Gelu": f"has no int8 kernel; {_USE_RELU}",
    "FastGelu": f"has no int8 kernel; {_USE_RELU}",
    "Erf": f"(part of GELU) has no int8 kernel; {_USE_RELU}",
    "Tanh": f"has no int8 kernel; {_USE_RELU}",
    "Mish": f"has no int8 kernel; {_USE_RELU}",
    "Softplus": f"(part of Mish) has no int8 kernel; {_USE_RELU}",
    "ReduceMean": "has no int8 kernel; average over the whole image, or use AvgPool2d",
    "GlobalMaxPool": "has no int8 kernel; use MaxPool2d with the image's size",
    "Resize": "has an int8 kernel for nearest neighbours only",
    "Pad": "has no int8 kernel; give the padding to the convolution behind it",
    "Sub": "has no int8 kernel; add the negative",
    "Div": "has no int8 kernel; multiply by the inverse",
    "BatchNormalization": "was not folded; put it right behind a convolution",
    "InstanceNormalization": "has no int8 kernel; use BatchNorm2d",
    "LayerNormalization": "has no int8 kernel; use BatchNorm2d",
    "ConvTranspose": "has no int8 kernel; use nearest-neighbour Resize and Conv",
    "ReorderInput": "prepares the layout of a float convolution",
    "ReorderOutput": "takes back the layout of a float convolution",
}
_NOT_QUANTIZED = (
    "has an int8 kernel that was not used, because an input or its output is not quantized"
)
_HAS_KERNEL = {
    "Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Add", "Mul", "MaxPool",
    "AveragePool", "GlobalAveragePool", "Concat", "Sigmoid", "LeakyRelu", "Softmax", "Relu", "Clip",
}  # fmt: skip


def reason_for_float(operator: str) -> str:
    """Return, worded to follow the operator's name, why it is executed in float."""
    if operator in _REASONS:
        return _REASONS[operator]
    return _NOT_QUANTIZED if operator in _HAS_KERNEL else "has no int8 kernel"
