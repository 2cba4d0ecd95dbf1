"""What a model weighs as a compressed download."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import zstandard

from exporter.artifacts import Artifact

VERSION = 1

GZIP_LEVEL = 9
ZSTD_LEVEL = 19
"""The highest level that needs no extra memory to unpack: a file is packed once and sent often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadSize:
    """Bytes of one file, compressed in one piece."""

    gzip_bytes: int
    zstd_bytes: int


def download_size(out: Path, file: Artifact) -> DownloadSize:
    """Return what ``file`` weighs when compressed; ``out`` is left empty."""
    content = file.checked().read_bytes()
    return DownloadSize(
        gzip_bytes=len(gzip.compress(content, GZIP_LEVEL, mtime=0)),
        zstd_bytes=len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(content)),
    )
