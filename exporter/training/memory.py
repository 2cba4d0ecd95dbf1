"""A setting of the C library's allocator that makes training on a CPU about a quarter faster."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # <malloc.h>
_KEPT_BYTES = 1 << 30
_GROWTH_BYTES = 1 << 28


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of handing them back to the system.

    A training step frees and asks for the same large tensors again and again. By default each of
    them is mapped and unmapped, and the kernel clears every page anew. Where the C library is not
    glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TOP_PAD, _GROWTH_BYTES)
