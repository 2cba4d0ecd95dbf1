"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, shown as 32x32 RGB.

E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
The dataset is bundled with scikit-learn, so it needs no download.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from exporter.config import DataConfig
from exporter.data.source import Dataset, Source

ENLARGED = 4
BRIGHTEST = 16


def _fingerprint(config: DataConfig) -> str:
    return f"scikit-learn {version('scikit-learn')}"


def _read(out: Path, config: DataConfig) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / BRIGHTEST)).astype(np.uint8)
    large = grey.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    return Dataset(
        name="digits",
        images=np.repeat(large[..., np.newaxis], 3, axis=3),
        labels=digits.target.astype(np.int64),
        test=None,
        classes=tuple(str(name) for name in digits.target_names),
        mirror_safe=False,
    )


DIGITS = Source(
    summary="scikit-learn's handwritten digits, 1,797 images of 32x32; nothing to download",
    fingerprint=_fingerprint,
    read=_read,
)
