"""Times with other threads and larger batches than the gates go by."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.config import VerifyConfig
from exporter.report.evidence import SettingTimes
from exporter.verification.latency import Latency, measure_latency
from exporter.verification.pinning import usable_cores
from exporter.verification.session import open_session, takes_one_image

BATCHES = (1, 8, 32)


def measure_settings(
    config: VerifyConfig, dense: Artifact, shipped: Artifact, image: NDArray[np.uint8]
) -> tuple[SettingTimes, ...]:
    """Return dense float against what ships: one thread and all, one image and more.

    Args:
        config: the seconds to spend on each setting.
        dense: the yardstick.
        shipped: what should be faster. Where either takes one image per run, no batch is larger.
        image: what is classified, ``uint8 [H, W, C]``.

    Raises:
        GraphError: a file does not load or breaks the contract.
    """
    single = any(takes_one_image(open_session(file, threads=1)) for file in (dense, shipped))
    batches = BATCHES[:1] if single else BATCHES
    models = {"dense": dense, "shipped": shipped}
    found = []
    for threads, batch in product(sorted({1, usable_cores()}), batches):
        setting = dataclasses.replace(config, threads=threads)
        latency = measure_latency(
            setting, models, image, baseline="dense", candidate="shipped", batch=batch
        )
        found.append(_times(latency, threads, batch))
    return tuple(found)


def _times(latency: Latency, threads: int, batch: int) -> SettingTimes:
    speedup, noise = latency.speedup, latency.same_file.farthest
    return SettingTimes(
        threads=threads,
        batch=batch,
        dense_ms=latency.timings["dense"].p50_ms,
        shipped_ms=latency.timings["shipped"].p50_ms,
        speedup=speedup.value,
        speedup_ci=(speedup.low, speedup.high),
        noise=noise,
        beyond_noise=speedup.beyond(noise),
    )
