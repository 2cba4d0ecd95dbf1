"""The runner's own image reading and resizing against Pillow's, as training uses it."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from deploy import run
from exporter.contract import InputContract
from exporter.data.decode import decode_image

SIZES = [(1, 1), (1, 9), (9, 1), (7, 5), (20, 33)]  # width and height of sources


def pixels(*shape: int, high: int = 256, dtype: type = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(3).integers(0, high, shape, dtype=dtype)


def as_trained(path: Path) -> NDArray[np.uint8]:
    """Return what training reads from a file, at the file's own size."""
    with Image.open(path) as image:
        width, height = ImageOps.exif_transpose(image).size
    return decode_image(path, InputContract(height=height, width=width, classes=("a", "b")))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """Return a PNG file with these raw rows: a filter byte and the packed samples of each."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [header, *more, b"IDAT" + zlib.compress(rows), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in parts
    )


def noise_rows(width: int, height: int, bits: int) -> bytes:
    """Return noise for every row, each with the next of the five filters."""
    row = (width * bits + 7) // 8
    noise = pixels(height, row + 1)
    noise[:, 0] = np.arange(height) % 5
    return noise.tobytes()


PILLOW_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_png_as_pillow_writes_it(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        image = Image.fromarray(pixels(size[1], size[0], high=65536, dtype=np.uint16))
    else:
        image = Image.fromarray(pixels(size[1], size[0], 4), "RGBA").convert(mode)
    assert image.mode == mode
    image.save(path)
    np.testing.assert_array_equal(run.decode(path), as_trained(path))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("colour", "depth"),
    [(colour, depth) for colour, depths in run._PNG_DEPTHS.items() for depth in depths],
)
def test_png_of_every_kind_with_every_filter(
    tmp_path: Path, colour: int, depth: int, size: tuple[int, int]
) -> None:
    rows = noise_rows(*size, run._PNG_CHANNELS[colour] * depth)
    palette = [b"PLTE" + pixels(3 << depth).tobytes()] if colour == 3 else []
    path = tmp_path / "a.png"
    path.write_bytes(png(*size, depth, colour, rows, *palette))
    np.testing.assert_array_equal(run.decode(path), as_trained(path))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("entries", [1, 2, 256])
def test_palette_with_a_table_of_transparency(tmp_path: Path, depth: int, entries: int) -> None:
    entries = min(entries, 1 << depth)
    chunks = [b"PLTE" + pixels(3 << depth).tobytes(), b"tRNS" + pixels(entries).tobytes()]
    path = tmp_path / "a.png"
    path.write_bytes(png(9, 30, depth, 3, noise_rows(9, 30, depth), *chunks))
    np.testing.assert_array_equal(run.decode(path), as_trained(path))


@pytest.mark.parametrize(("colour", "depth"), [(0, 1), (0, 8), (2, 8)])
def test_a_transparent_colour_becomes_white(tmp_path: Path, colour: int, depth: int) -> None:
    channels = run._PNG_CHANNELS[colour]
    dark = bytes(1 + (4 * depth * channels + 7) // 8)  # two rows of four black pixels
    for key, expected in ((0, 255), (1, 0)):
        path = tmp_path / "a.png"
        clear = b"tRNS" + struct.pack(">H", key) * channels
        path.write_bytes(png(4, 2, depth, colour, dark * 2, clear))
        assert (run.decode(path) == expected).all()
        np.testing.assert_array_equal(run.decode(path), as_trained(path))


@pytest.mark.parametrize("orientation", range(1, 10))
def test_png_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "camera"  # another entry, before the one that counts
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels(5, 3, 3)).save(path, exif=exif)
    np.testing.assert_array_equal(run.decode(path), as_trained(path))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", SIZES)
def test_bmp(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    path = tmp_path / "a.bmp"
    Image.fromarray(pixels(size[1], size[0], 4), "RGBA").convert(mode).save(path)
    np.testing.assert_array_equal(run.decode(path), as_trained(path))


def bmp(bits: int, *masks: int, header: int = 40, height: int = 5) -> bytes:
    rows = abs(height) * ((4 * bits // 8 + 3) // 4 * 4)
    head = struct.pack("<IiiHHIIiiII", header, 4, height, 1, bits, 3 if masks else 0, *[0] * 5)
    head = (head + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")
    return struct.pack("<2sIII", b"BM", 0, 0, 14 + len(head)) + head + pixels(rows).tobytes()


@pytest.mark.parametrize(
    "data",
    [
        bmp(24, height=-5),
        bmp(32, height=5),
        bmp(32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000, header=108),
        bmp(32, 0xFF000000, 0xFF0000, 0xFF00, 0xFF, header=124, height=-5),
        bmp(32, 0xFF0000, 0xFF00, 0xFF, header=40),
    ],
    ids=["top-down", "padded", "rgba", "abgr", "three-masks"],
)
def test_bmp_layouts(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(data)
    np.testing.assert_array_equal(run.decode(path), as_trained(path))


@pytest.mark.parametrize("kind", ["P5", "P6"])
@pytest.mark.parametrize("largest", [1, 100, 255, 1000, 65535])
def test_pnm(tmp_path: Path, kind: str, largest: int) -> None:
    channels = 3 if kind == "P6" else 1
    values = pixels(5, 4, channels, high=largest + 1, dtype=np.uint16)
    path = tmp_path / "a.pnm"
    header = f"{kind} # written by hand\n# two comments\n4\t5\n{largest}\n".encode()
    path.write_bytes(header + values.astype(">u2" if largest > 255 else "u1").tobytes())
    expected = np.rint(values / largest * 255).astype(np.uint8)
    np.testing.assert_array_equal(run.decode(path), np.broadcast_to(expected, (5, 4, 3)))
    if kind == "P6" or largest < 256:
        with Image.open(path) as image:
            np.testing.assert_array_equal(run.decode(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_npy(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = pixels(*shape)
    np.save(tmp_path / "a.npy", values)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[shape[2] if len(shape) == 3 else 1]
    Image.fromarray(values.squeeze(), mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(run.decode(tmp_path / "a.npy"), as_trained(tmp_path / "a.png"))


@pytest.mark.parametrize("name", ["interlaced.png", "a.jpg", "a.webp", "a.gif", "cmyk.jpg"])
def test_other_formats_go_through_pillow(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    image = Image.fromarray(pixels(20, 33, 3)).convert("CMYK" if "cmyk" in name else "RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    if name == "a.gif":
        image.save(path)
    else:
        image.save(path, exif=exif)
    if name == "interlaced.png":
        # Pillow writes no interlaced files: one pixel is the same in both orders
        whole = png(1, 1, 8, 2, b"\0abc")
        head = whole[12:28] + b"\1"
        path.write_bytes(whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:])
    np.testing.assert_array_equal(run.decode(path), as_trained(path))


GOOD = png(4, 5, 8, 2, noise_rows(4, 5, 24))
BAD_FILES = {
    "cut.png": GOOD[:-30],
    "header.png": GOOD[:20],
    "flipped.png": GOOD[:50] + bytes([GOOD[50] ^ 1]) + GOOD[51:],
    "short.png": png(4, 5, 8, 2, noise_rows(4, 4, 24)),
    "filter.png": png(1, 1, 8, 0, b"\5a"),
    "depth.png": png(1, 1, 5, 0, b"\0a"),
    "empty.png": png(0, 1, 8, 0, b"\0"),
    "huge.png": png(1 << 20, 1 << 20, 8, 0, b"\0"),
    "palette.png": png(1, 1, 8, 3, b"\0\7", b"PLTEabc"),
    "checksum.png": png(1, 1, 8, 3, b"\0\0", b"PLTEabc").replace(b"PLTEabc", b"PLTEabd"),
    "bare.png": png(1, 1, 8, 3, b"\0\7"),
    "cut.ppm": b"P6 4 5 255 abc",
    "word.ppm": b"P6 four 5 255 abc",
    "endless.ppm": b"P6 # no end",
    "deep.pgm": b"P5 1 1 65536 aa",
    "cut.bmp": bmp(24)[:-1],
    "header.bmp": bmp(24)[:30],
    "float.npy": b"",
    "flat.npy": b"",
    "object.npy": b"",
    "header.npy": b"\x93NUMPY\x01\x00\x04\x00{'(\n",
    "cut.jpg": b"",
    "word.txt": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BAD_FILES[name])
    if name == "cut.jpg":
        whole = io.BytesIO()
        Image.fromarray(pixels(40, 40, 3)).save(whole, "JPEG")
        path.write_bytes(whole.getvalue()[:400])
    if name == "float.npy":
        np.save(path, np.zeros((2, 2, 3)))
    if name == "flat.npy":
        np.save(path, pixels(12))
    if name == "object.npy":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(run.Problem) as caught:
        run.decode(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_pillow_the_readable_formats_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.webp")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(run.Problem, match=r"a\.webp: without Pillow only PNG") as caught:
        run.decode(tmp_path / "a.webp")
    assert caught.value.exit_code == 2


# Pillow 13 changed which direction is resized first; the runner follows it to the bit.
LEVELS = 0 if PIL.__version__.startswith("13.") else 1
TARGETS = [(8, 6), (32, 32), (33, 7)]  # height and width of networks
SOURCES = [(1, 1), (8, 6), (6, 8), (32, 32), (31, 33), (100, 7), (3, 250), (200, 301), (40, 29)]


@pytest.mark.parametrize("rule", ["crop", "stretch"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_resized_as_in_training(
    tmp_path: Path,
    source: tuple[int, int],
    target: tuple[int, int],
    rule: Literal["crop", "stretch"],
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pixels(*source, 3)).save(path)
    contract = InputContract(height=target[0], width=target[1], resize=rule, classes=("a", "b"))
    expected = decode_image(path, contract)
    sides = {"height": contract.height, "width": contract.width, "resize": rule}
    measured = run.to_contract(run.decode(path), sides)
    assert measured.shape == expected.shape
    assert measured.dtype == np.uint8
    assert np.abs(measured.astype(int) - expected).max() <= LEVELS
