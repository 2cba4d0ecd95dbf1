"""Quantization-aware fine-tuning: weights learn to be rounded before they are."""
