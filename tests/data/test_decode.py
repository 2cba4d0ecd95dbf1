"""Every kind of image file against pixel values worked out by hand."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image

from exporter.contract import InputContract
from exporter.data import decode as decoding
from exporter.data.decode import decode_image, upright_size
from exporter.data.size import Size
from exporter.errors import DataError
from tests.data.pictures import noise, save

RED, GREEN, BLUE, WHITE, BLACK = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
)
OPEN_FILES = Path("/proc/self/fd")
QUARTERS = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
"""An image in which every corner differs."""


def decoded(
    path: Path, height: int, width: int, resize: Literal["crop", "stretch"] = "crop"
) -> NDArray[np.uint8]:
    contract = InputContract(height=height, width=width, resize=resize, classes=("a", "b"))
    return decode_image(path, contract)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def check(path: Path, expected: ArrayLike, within: int = 0) -> None:
    wanted = np.asarray(expected, np.int64)
    got = decoded(path, *wanted.shape[:2])
    assert got.dtype == np.uint8
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got.astype(np.int64), wanted, rtol=0, atol=within)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "tiff", "PNG"])
def test_lossless_formats_keep_every_value(tmp_path: Path, suffix: str) -> None:
    check(saved(tmp_path / f"a.{suffix}", Image.fromarray(QUARTERS)), QUARTERS)


def test_webp_keeps_every_value_when_lossless(tmp_path: Path) -> None:
    pixels = noise(1, 5, 7)
    check(saved(tmp_path / "a.webp", Image.fromarray(pixels), lossless=True), pixels)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_formats_keep_a_flat_colour(tmp_path: Path, suffix: str) -> None:
    pixels = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    check(saved(tmp_path / f"a.{suffix}", Image.fromarray(pixels), quality=95), pixels, within=4)


def test_content_decides_over_the_suffix(tmp_path: Path) -> None:
    check(saved(tmp_path / "a.jpg", Image.fromarray(QUARTERS), format="PNG"), QUARTERS)


def test_greyscale_is_replicated(tmp_path: Path) -> None:
    grey = np.array([[0, 7, 255]], np.uint8)
    expected = [[BLACK, (7, 7, 7), WHITE]]
    check(saved(tmp_path / "a.png", Image.fromarray(grey)), expected)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1")
    check(saved(tmp_path / "a.png", bits), [[BLACK, WHITE, WHITE]])


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[2, 0, 1, 2]], np.uint8)).convert("L")
    image.putpalette([*RED, *GREEN, 10, 20, 30])
    assert image.mode == "P"
    check(saved(tmp_path / "a.png", image), [[(10, 20, 30), RED, GREEN, (10, 20, 30)]])


def test_transparent_palette_entry_becomes_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([*RED, *GREEN])
    check(saved(tmp_path / "a.png", image, transparency=0), [[WHITE, GREEN]])


def test_transparent_colour_of_an_opaque_mode_becomes_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[RED, BLUE]], np.uint8))
    check(saved(tmp_path / "rgb.png", image, transparency=RED), [[WHITE, BLUE]])
    grey = Image.fromarray(np.array([[9, 10]], np.uint8))
    check(saved(tmp_path / "grey.png", grey, transparency=9), [[WHITE, (10, 10, 10)]])


def test_rgba_is_composited_on_white(tmp_path: Path) -> None:
    pixels = np.array([[(*RED, 255), (*RED, 0), (0, 100, 200, 51)]], np.uint8)
    # 51 / 255 is a fifth: 0.2 * colour + 0.8 * 255
    expected = [[RED, WHITE, (204, 224, 244)]]
    check(saved(tmp_path / "a.png", Image.fromarray(pixels)), expected, within=1)


def test_grey_with_alpha_is_composited_on_white(tmp_path: Path) -> None:
    pixels = np.array([[(50, 255), (50, 0), (0, 51)]], np.uint8)
    image = Image.fromarray(pixels)
    assert image.mode == "LA"
    check(saved(tmp_path / "a.png", image), [[(50, 50, 50), WHITE, (204, 204, 204)]], within=1)


def test_cmyk_tiff(tmp_path: Path) -> None:
    ink = np.array([[(0, 0, 0, 0), (0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 255)]], np.uint8)
    path = saved(tmp_path / "a.tif", Image.fromarray(ink, "CMYK"))
    check(path, [[WHITE, RED, (0, 255, 255), BLACK]])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    ink = np.full((16, 16, 4), (0, 255, 255, 0), np.uint8)
    path = saved(tmp_path / "a.jpg", Image.fromarray(ink, "CMYK"), quality=95)
    check(path, np.full((16, 16, 3), RED), within=4)


VALUES_16 = [0, 128, 129, 257, 32767, 32896, 65278, 65535]
ROUNDED_8 = [0, 0, 1, 1, 127, 128, 254, 255]  # round(value * 255 / 65535)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_and_rounded(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(np.array([VALUES_16], np.uint16))
    assert image.mode == "I;16"
    path = saved(tmp_path / f"a.{suffix}", image)
    check(path, np.repeat(np.array([ROUNDED_8])[..., np.newaxis], 3, axis=2))


def test_sixteen_bit_big_endian_tiff(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (8, 1), np.array([VALUES_16], ">u2").tobytes())
    with Image.open(saved(tmp_path / "a.tif", image)) as reopened:
        assert reopened.mode == "I;16B"
    check(tmp_path / "a.tif", np.repeat(np.array([ROUNDED_8])[..., np.newaxis], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path: Path, dtype: type) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(np.ones((4, 4), dtype)))
    with pytest.raises(DataError, match="32-bit"):
        decoded(path, 4, 4)


STRIP = np.array([[RED, GREEN, BLUE], [WHITE, BLACK, (9, 9, 9)]], np.uint8)
UPRIGHT = {  # EXIF 2.3, tag 0x0112: where row 0 and column 0 of the stored image belong
    1: STRIP,
    2: STRIP[:, ::-1],
    3: STRIP[::-1, ::-1],
    4: STRIP[::-1],
    5: STRIP.transpose(1, 0, 2),
    6: np.rot90(STRIP, -1),
    7: STRIP[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(STRIP, 1),
}


def rotated(path: Path, pixels: NDArray[np.uint8], orientation: int, **options: Any) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(path, Image.fromarray(pixels), exif=exif, **options)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    expected = UPRIGHT[orientation]
    for path, options in ((tmp_path / "a.png", {}), (tmp_path / "a.webp", {"lossless": True})):
        rotated(path, STRIP, orientation, **options)
        check(path, expected)
        assert upright_size(path) == expected.shape[:2]


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half is white; turned clockwise it is the upper one
    path = rotated(tmp_path / "a.jpg", pixels, 6, quality=95)
    check(path, np.rot90(pixels, -1), within=4)
    assert upright_size(path) == (32, 16)


def test_exif_orientation_of_sixteen_bits(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.fromarray(np.array([[0, 65535]], np.uint16))
    check(saved(tmp_path / "a.png", image, exif=exif), [[BLACK], [WHITE]])


def test_an_unknown_orientation_turns_nothing(tmp_path: Path) -> None:
    path = rotated(tmp_path / "a.png", STRIP, 9)
    check(path, STRIP)
    assert upright_size(path) == STRIP.shape[:2]


def test_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    check(path, np.full((4, 4, 3), RED))


def test_an_image_of_the_right_size_is_left_alone(tmp_path: Path) -> None:
    check(save(tmp_path / "a.png", noise(2, 9, 5)), noise(2, 9, 5))


def thirds() -> NDArray[np.uint8]:
    """Return 4 x 12: red, green and blue squares side by side."""
    return np.repeat(np.array([[RED, GREEN, BLUE]], np.uint8), 4, axis=1).repeat(4, axis=0)


def test_crop_takes_the_centre(tmp_path: Path) -> None:
    path = save(tmp_path / "wide.png", thirds())
    np.testing.assert_array_equal(decoded(path, 4, 4, "crop"), np.full((4, 4, 3), GREEN))
    path = save(tmp_path / "tall.png", thirds().transpose(1, 0, 2))
    np.testing.assert_array_equal(decoded(path, 4, 4, "crop"), np.full((4, 4, 3), GREEN))


def test_stretch_takes_everything(tmp_path: Path) -> None:
    columns = decoded(save(tmp_path / "a.png", thirds()), 4, 3, "stretch")
    assert columns.shape == (4, 3, 3)
    # The triangle filter of one output column reaches half a square into its neighbours.
    np.testing.assert_array_equal(columns[0].argmax(axis=1), [0, 1, 2])
    assert columns[0, 1, 1] == pytest.approx(0.75 * 255, abs=2)
    np.testing.assert_array_equal(columns, np.repeat(columns[:1], 4, axis=0))


def test_shrinking_averages(tmp_path: Path) -> None:
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    path = save(tmp_path / "a.png", np.repeat(checkers[..., np.newaxis], 3, axis=2).astype("u1"))
    small = decoded(path, 4, 4, "stretch").astype(int)
    assert np.abs(small - 127.5).max() <= 2


def test_enlarging_is_bilinear(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[BLACK, (200, 200, 200)]], np.uint8))
    grey = decoded(path, 1, 4, "stretch")[0, :, 0]
    np.testing.assert_array_equal(grey, [0, 50, 150, 200])


def png_bytes() -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(3, 40, 40)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"not an image", png_bytes()[:40], png_bytes()[: len(png_bytes()) // 2]],
    ids=["empty", "header only", "text", "header cut", "truncated"],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png cannot be decoded") as caught:
        decoded(path, 4, 4)
    assert "\n" not in str(caught.value)


def test_flipped_bits_never_escape_as_other_errors(tmp_path: Path) -> None:
    generator, path = np.random.default_rng(5), tmp_path / "a.png"
    refused = 0
    for _ in range(60):
        data = bytearray(png_bytes())
        for place in generator.integers(8, 120, 3):
            data[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(data)
        upright_size(path)
        try:
            assert decoded(path, 4, 4).shape == (4, 4, 3)
        except DataError:
            refused += 1
    assert refused > 30


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.png.*no such file"):
        decoded(tmp_path / "nowhere.png", 4, 4)
    with pytest.raises(DataError, match="directory"):
        decoded(tmp_path, 4, 4)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(QUARTERS), format="PPM")
    with pytest.raises(DataError, match="not a PNG"):
        decoded(path, 2, 2)


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", noise(4, 10, 10))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 99)
    with pytest.raises(DataError, match=r"10x10 pixels.*99"):
        decoded(path, 4, 4)
    assert upright_size(path) is None
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    assert decoded(path, 4, 4).shape == (4, 4, 3)


def test_pillows_warnings_stay_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", noise(4, 10, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    with pytest.warns(Image.DecompressionBombWarning), Image.open(path):
        pass  # what is kept off the terminal below
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoded(path, 4, 4).shape == (4, 4, 3)


def test_size_is_none_for_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    assert upright_size(tmp_path / "a.png") is None
    assert upright_size(tmp_path / "b.png") is None
    assert upright_size(save(tmp_path / "c.png", noise(1, 3, 5))) == Size(3, 5)


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="needs Linux's /proc")
def test_files_are_closed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(1))
    (tmp_path / "b.png").write_bytes(png_bytes()[:300])
    before = len(list(OPEN_FILES.iterdir()))
    for _ in range(5):
        decoded(path, 4, 4)
        with pytest.raises(DataError):
            decoded(tmp_path / "b.png", 4, 4)
    assert len(list(OPEN_FILES.iterdir())) == before
