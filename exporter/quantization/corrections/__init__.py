"""What takes back some of quantization's error, one method per file; none needs labels.

``equalize`` changes a float model before its activations are measured; ``rounding`` and ``bias``
change a quantized network, in that order. Each returns a new model and leaves the old one alone.
"""
