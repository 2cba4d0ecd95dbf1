"""From an image file to the network's pixels: one rule, for training and for a single file alike.

1. The first frame is taken and turned upright by its EXIF orientation.
2. It becomes 8-bit RGB. Transparency is composited on white; greyscale is replicated; 16-bit
   greyscale ``v`` becomes ``round(v * 255 / 65535)``; palettes and CMYK go through Pillow's own
   conversion; embedded colour profiles are not applied.
3. ``crop`` takes the largest centred box with the target's aspect ratio, ``stretch`` the whole
   image; the box is brought to height x width by Pillow's bilinear filter, which antialiases when
   it shrinks. An image that has the right size already is left as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from exporter.contract import InputContract
from exporter.data.size import Size
from exporter.errors import DataError

Resize = Literal["stretch", "crop"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
MAX_PIXELS = 89_478_485
"""A quarter of a gigabyte as RGB, where Pillow begins to warn of decompression bombs."""


def decode_image(path: Path, contract: InputContract) -> NDArray[np.uint8]:
    """Return one image file as the network sees it, ``uint8 [H, W, 3]``.

    Raises:
        DataError: the file is missing, damaged, too large, or not an image of a known format.
    """
    with silent_pillow():
        return decode(path, Size(contract.height, contract.width), contract.resize)


def decode(path: Path, size: Size, resize: Resize) -> NDArray[np.uint8]:
    """As ``decode_image``, for threads: the caller holds ``silent_pillow``."""
    try:
        with _opened(path) as image:
            return fit(_rgb(image), size, resize)
    except Exception as error:  # damaged files make Pillow raise nearly every built-in exception
        raise DataError(f"{path} cannot be decoded: {_reason(error)}.") from error


def upright_size(path: Path) -> Size | None:
    """Return an image's size after rotation, nearly always from its header; None if unreadable."""
    try:
        with _opened(path) as image:
            width, height = image.size
            # EXIF is only looked up where it matters: a PNG is decoded to find it.
            sideways = width != height and (
                image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            )
            return Size(width, height) if sideways else Size(height, width)
    except Exception:  # whatever it is, decoding the file will raise and report it
        return None


def fit(image: Image.Image, size: Size, resize: Resize) -> NDArray[np.uint8]:
    """Return an RGB image brought to ``size`` by the contract's resize rule."""
    wanted = (size.width, size.height)
    if image.size != wanted:
        bilinear = Image.Resampling.BILINEAR
        if resize == "crop":
            image = ImageOps.fit(image, wanted, bilinear)
        else:
            image = image.resize(wanted, bilinear)
    return np.asarray(image)


@contextmanager
def silent_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about odd files off the terminal: what matters is raised instead.

    Warning filters belong to the process, so one context is held around all decoding threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _opened(path: Path) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{width}x{height} pixels are more than the limit of {MAX_PIXELS}")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels have no known range; save the file with 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bit(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _reason(error: Exception) -> str:
    """The error's first line, or plain words where Pillow only repeats the path."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not a PNG, JPEG, BMP, WebP, GIF or TIFF image, or damaged"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
