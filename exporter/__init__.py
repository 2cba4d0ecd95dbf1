"""Builds image classifiers for edge devices: train, prune, quantize, verify, bundle.

From Python, one build is::

    from exporter.artifacts import Cache
    from exporter.config import BuildConfig
    from exporter.pipeline import build

    report = build(BuildConfig(target="cpu-int8"), Cache(Path("cache")))
"""

from __future__ import annotations

__version__ = "0.1.0"
