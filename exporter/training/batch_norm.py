"""Statistics of batch-norms, measured anew after the network in front of them has changed.

A removed channel changes the sums that later layers see, but their batch-norms still normalise by
the mean and variance of the sums before. Measuring both again costs a few forward passes and no
gradient (EagleEye, Li et al., ECCV 2020, arXiv 2007.02491).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.training.augmentation import normalise

IMAGES = 2048
"""Training images that are looked at, at most."""
BATCH = 128


@torch.no_grad()
def reestimate_batch_norms(module: nn.Module, contract: InputContract, train: Split) -> None:
    """Set every running mean and variance to its average over batches of training images.

    The batches are whole ones of images spread evenly over ``train``, without augmentation; the
    same network and images give the same statistics. On return ``module`` is in eval mode.
    """
    norms = [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain average over all batches
    # The whole network trains: what stands before a batch-norm may differ from evaluation. Dropout
    # then draws random numbers, which have to be the same every time.
    module.train()
    images, _ = train.arrays()
    batch = min(BATCH, train.count)
    batches = min(IMAGES, train.count) // batch
    picked = np.linspace(0, train.count - 1, batches * batch).astype(np.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for places in picked.reshape(batches, batch):
            module(normalise(torch.from_numpy(images[places]), contract))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()
