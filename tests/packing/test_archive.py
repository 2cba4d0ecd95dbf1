"""Archives that somebody else made, broken or ill-meant: refused before anything is written."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from exporter.errors import BundleError, ExporterError
from exporter.packing import contents as contents_module
from exporter.packing.archive import MAX_RATIO, is_plain, read_zip, zip_of
from exporter.packing.pack import unpack

MUTATIONS = 400


def archive_of(path: Path, *entries: tuple[str, bytes, int]) -> Path:
    """Write a zip file with these names, contents and Unix modes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


UNSAFE = [
    "../evil", "/etc/evil", "a/b", "a/", "..", ".", "", "C:evil", "C:\\evil", "a\\b", "\\\\host\\x",
    "a\x00b", "a\nb", "nul\x7f", "a:b", "?", "x" * 256, " . ",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    assert not is_plain(name)
    # zipfile cleans names as it writes them, so a clean one is replaced in the finished file.
    stand_in = "n" * max(1, len(name.encode()))
    path = archive_of(tmp_path / "a.zip", (stand_in, b"x", 0))
    data = path.read_bytes().replace(stand_in.encode(), name.encode() or b"/")
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"no plain file name|cut or damaged"):
        unpack(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("name", ["model.onnx", "required_operators.config", "é.txt", ".hidden"])
def test_plain_names_are_plain(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFDIR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    path = archive_of(tmp_path / "a.zip", ("manifest.json", b"/etc/passwd", kind | 0o777))
    with pytest.raises(BundleError, match=r"manifest\.json, which is a link or no file"):
        unpack(path, tmp_path / "out")


def test_a_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "a.zip", ("manifest.json", bytes(2_000_000), 0))
    assert path.stat().st_size * MAX_RATIO < 2_000_000
    with pytest.raises(BundleError, match=f"to 2,000,000 bytes, more than {MAX_RATIO} times"):
        read_zip(path)


def test_an_entry_that_is_larger_than_it_says_is_refused(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "a.zip", ("manifest.json", bytes(range(256)) * 300, 0))
    size = (256 * 300).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        read_zip(path)


def test_too_many_and_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive_of(tmp_path / "a.zip", *((f"{i}", b"", 0) for i in range(101)))
    with pytest.raises(BundleError, match="101 files, more than the limit of 100"):
        read_zip(path)
    path = archive_of(tmp_path / "a.zip", ("a", bytes(600), 0), ("b", bytes(600), 0))
    monkeypatch.setattr(contents_module, "MAX_BYTES", 1000)
    with pytest.raises(BundleError, match="1,200 bytes, more than the limit of 1,000"):
        read_zip(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["run.py", "RUN.PY"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, second: str) -> None:
    path = archive_of(tmp_path / "a.zip", ("run.py", b"good", 0), (second, b"bad", 0))
    with pytest.raises(BundleError, match="two files of one name"):
        read_zip(path)


def test_encrypted_and_rare_forms_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("manifest.json", b"{}")
    with pytest.raises(BundleError, match="encrypted or packed in a rare way"):
        read_zip(path)
    path.write_bytes(zip_of({"manifest.json": b"{}"}))
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="encrypted or packed in a rare way"):
        read_zip(path)


def test_what_is_no_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("PK no")
    for name, words in {"text.zip": "is not a zip file", "absent.zip": "No such file"}.items():
        with pytest.raises(BundleError, match=words) as caught:
            read_zip(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="Is a directory"):
        read_zip(tmp_path)


def test_deflated_archives_of_other_tools_are_read(shipped: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in shipped.iterdir():
            archive.write(path, path.name)
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == len(list(shipped.iterdir()))


def test_changed_bytes_give_a_refusal_or_the_same_files(shipped: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in shipped.iterdir()}
    stored = zip_of(files)
    deflated = io.BytesIO()
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    random = np.random.default_rng(7)
    refused = 0
    for number in range(MUTATIONS):
        data = bytearray((stored, deflated.getvalue())[number % 2])
        tail = len(data) - 80 * (len(files) + 1)  # half of the changes hit the directory
        low = tail if number % 4 < 2 else 0
        for _ in range(int(random.integers(1, 4))):
            data[int(random.integers(low, len(data)))] = int(random.integers(256))
        (tmp_path / "a.zip").write_bytes(data)
        try:
            unpack(tmp_path / "a.zip", tmp_path / "out")
        except ExporterError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
            refused += 1
        else:
            written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
            assert written == files
            for path in (tmp_path / "out").iterdir():
                path.unlink()
            (tmp_path / "out").rmdir()
        assert {path.name for path in tmp_path.iterdir()} <= {"a.zip", "out"}
    assert refused > MUTATIONS / 2
