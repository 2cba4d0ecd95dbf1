from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import zstandard

from exporter.artifacts import Artifact, Cache
from exporter.verification.download import DownloadSize, download_size


def artifact(path: Path, content: bytes) -> Artifact:
    path.write_bytes(content)
    return Artifact.of(path)


def test_sizes_are_those_of_files_that_unpack_again(tmp_path: Path) -> None:
    content = b"edge " * 1000 + bytes(range(256))
    found = download_size(tmp_path, artifact(tmp_path / "model", content))

    packed = gzip.compress(content, 9, mtime=0)
    assert found.gzip_bytes == len(packed) < len(content)
    assert gzip.decompress(packed) == content
    zipped = zstandard.ZstdCompressor(level=19).compress(content)
    assert found.zstd_bytes == len(zipped) < len(content)
    assert zstandard.ZstdDecompressor().decompress(zipped) == content


def test_zeros_make_a_download_smaller(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=20_000).astype(np.float32)
    full = download_size(tmp_path, artifact(tmp_path / "full", weights.tobytes()))
    weights[generator.random(20_000) < 0.9] = 0
    masked = download_size(tmp_path, artifact(tmp_path / "masked", weights.tobytes()))

    assert full.gzip_bytes > 0.85 * weights.nbytes
    assert masked.gzip_bytes < 0.25 * full.gzip_bytes
    assert masked.zstd_bytes < 0.25 * full.zstd_bytes


def test_the_cache_knows_a_file_by_its_content(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first = cache.run(download_size, artifact(tmp_path / "a", b"x" * 500))
    again = cache.run(download_size, artifact(tmp_path / "b", b"x" * 500))

    assert first == again
    assert isinstance(first, DownloadSize)
    assert [run.cached for run in cache.runs] == [False, True]
