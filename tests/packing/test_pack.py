"""Bundles packed and unpacked: the same bytes, whole or not at all, every damage named."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exporter.artifacts import sha256_of
from exporter.cli import app
from exporter.errors import BundleError, ConfigError, OutputError
from exporter.packing.archive import zip_of
from exporter.packing.contents import read_folder
from exporter.packing.pack import pack, unpack, verify_bundle
from tests.packing.keys import write_keys
from tests.tiny_bundle import run_bundle

OPENSSL = shutil.which("openssl")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(part) for part in arguments])


def damaged(archive: Path, name: str, content: bytes | None) -> Path:
    """Write a sound zip file in which one file of the bundle is another, or is missing."""
    with zipfile.ZipFile(archive) as file:
        files = {entry: file.read(entry) for entry in file.namelist()}
    if content is None:
        del files[name]
    else:
        files[name] = content
    archive.write_bytes(zip_of(files))
    return archive


@pytest.fixture
def packed(shipped: Path, tmp_path: Path) -> Path:
    return pack(shipped, tmp_path / "bundle.zip").path


def test_there_and_back_it_is_the_same_bundle(shipped: Path, packed: Path, tmp_path: Path) -> None:
    manifest = unpack(packed, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(shipped)
    assert manifest.model_sha256 == sha256_of(shipped / "model.onnx")
    assert run_bundle(tmp_path / "again")["golden"]["agree"] == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "bundle.zip"]


def test_the_same_bundle_gives_the_same_bytes_at_any_time(
    copy: Path, packed: Path, tmp_path: Path
) -> None:
    for path in copy.iterdir():
        os.utime(path, (time.time() - 1e6, 0))
        path.chmod(0o600)
    assert pack(copy, tmp_path / "other.zip").path.read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == sorted(contents(copy))
        assert archive.testzip() is None


def test_an_older_archive_is_replaced_and_a_folder_is_not(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "old.zip").write_bytes(b"old")
    packed = pack(shipped, tmp_path / "old.zip")
    assert zipfile.is_zipfile(packed.path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"Cannot write .*/folder: "):
        pack(shipped, tmp_path / "folder")
    with pytest.raises(OutputError, match="would change the bundle"):
        pack(shipped, shipped / "inside.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "old.zip"]


def test_a_full_disk_leaves_the_older_archive(shipped: Path, packed: Path) -> None:
    before = packed.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(OutputError, match="Free some space"):
            pack(shipped, packed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert packed.read_bytes() == before
    assert [path.name for path in packed.parent.iterdir()] == [packed.name]


DAMAGES = {
    "change": ("labels.txt", b"ant\nbee\ncat\ncow\n", "labels.txt has changed"),
    "cut": ("labels.txt", b"ant", "labels.txt has 3 bytes instead of 16"),
    "missing": ("run.py", None, "run.py is missing"),
    "extra": ("setup.py", b"", "setup.py is not part of it"),
    "no manifest": ("manifest.json", None, "it has no manifest.json"),
    "no text": ("manifest.json", b"\xff{", "manifest.json cannot be read"),
    "deep": ("manifest.json", b"[" * 100_000, "manifest.json cannot be read"),
    "no files": ("manifest.json", b'{"format_version": 1}', "manifest.json cannot be read"),
    "no model": (
        "manifest.json",
        b'{"format_version": 1, "model": "m", "target": "t", "files": {}}',
        "manifest.json does not list model.onnx",
    ),
    "newer": (
        "manifest.json",
        b'{"format_version": 2, "model": "m", "target": "t", "files": {}}',
        "a manifest of format 2, this program reads 1",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_and_nothing_is_written(packed: Path, tmp_path: Path, name: str) -> None:
    file, content, words = DAMAGES[name]
    damaged(packed, file, content)
    with pytest.raises(BundleError, match=words) as caught:
        unpack(packed, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.zip"]
    found = verify_bundle(packed)
    assert not found.passed
    assert words in str(found.fault)


def test_a_damaged_folder_is_neither_packed_nor_verified(copy: Path, tmp_path: Path) -> None:
    (copy / "model.onnx").write_bytes(b"")
    (copy / "notes").mkdir()
    with pytest.raises(BundleError, match="notes is not part of it"):
        pack(copy, tmp_path / "a.zip")
    (copy / "notes").rmdir()
    with pytest.raises(BundleError, match=r"model\.onnx has 0 bytes instead of 1044"):
        pack(copy, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    result = invoke("verify-bundle", copy, "--json")
    assert result.exit_code == 1
    assert "model.onnx has 0 bytes" in json.loads(result.stdout)["fault"]


@pytest.mark.parametrize("size", [0, 1, 100, -1, -30, -2000])
def test_a_cut_archive_is_refused(packed: Path, tmp_path: Path, size: int) -> None:
    packed.write_bytes(packed.read_bytes()[:size])
    with pytest.raises(BundleError, match="cut or damaged"):
        unpack(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_an_empty_folder_is_filled(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    unpack(packed, out)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="already holds files"):
        unpack(packed, out)
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(OutputError, match="is in the way"):
        unpack(packed, packed)


def test_a_signed_bundle_is_its_signers(shipped: Path, tmp_path: Path) -> None:
    write_keys(tmp_path, "ours")
    write_keys(tmp_path, "theirs")
    archive = pack(shipped, tmp_path / "a.zip", tmp_path / "ours.pem")
    assert pack(shipped, tmp_path / "b.zip", tmp_path / "ours.pem").sha256 == archive.sha256
    assert verify_bundle(archive.path).signed == "yes, not checked"
    assert verify_bundle(archive.path, tmp_path / "ours.pub.pem").signed == "yes, by this key"
    unpack(archive.path, tmp_path / "out", tmp_path / "ours.pub.pem")
    assert verify_bundle(tmp_path / "out", tmp_path / "ours.pub.pem").passed
    assert run_bundle(tmp_path / "out")["passed"]
    again = pack(tmp_path / "out", tmp_path / "c.zip")  # keeps the signature
    assert again.sha256 == archive.sha256
    with pytest.raises(BundleError, match=r"forged: manifest\.sig is not .*theirs\.pub\.pem's"):
        unpack(archive.path, tmp_path / "never", tmp_path / "theirs.pub.pem")
    assert not (tmp_path / "never").exists()


def test_whoever_changes_files_and_manifest_lacks_the_signature(copy: Path, tmp_path: Path) -> None:
    write_keys(tmp_path, "ours")
    key = tmp_path / "ours.pub.pem"
    archive = pack(copy, tmp_path / "a.zip", tmp_path / "ours.pem").path
    damaged(archive, "labels.txt", b"ant\nbee\ncat\ncow\n")
    assert "labels.txt has changed" in str(verify_bundle(archive, key).fault)
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["classes"][3] = "cow"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "it has no manifest.sig" in str(verify_bundle(copy, key).fault)
    signed = read_folder(copy)
    with zipfile.ZipFile(archive) as file:
        signed["manifest.sig"] = file.read("manifest.sig")
    archive.write_bytes(zip_of(signed))
    assert verify_bundle(archive).passed
    assert "is forged" in str(verify_bundle(archive, key).fault)
    damaged(archive, "manifest.sig", b"short")
    assert "is forged" in str(verify_bundle(archive, key).fault)


def test_keys_that_do_not_fit_are_named_with_the_remedy(shipped: Path, tmp_path: Path) -> None:
    write_keys(tmp_path, "ours")
    write_keys(tmp_path, "locked", password="x")
    write_keys(tmp_path, "curve", kind="p256")
    (tmp_path / "text.pem").write_text("no key")
    archive = tmp_path / "a.zip"
    for name, words in {
        "absent.pem": "Cannot read the key .*absent",
        "text.pem": "not a private key in PEM; make one: openssl genpkey -algorithm ed25519",
        "ours.pub.pem": "not a private key",
        "locked.pem": "locked by a password",
        "curve.pem": "of another kind",
    }.items():
        with pytest.raises(ConfigError, match=words):
            pack(shipped, archive, tmp_path / name)
    assert not archive.exists()
    pack(shipped, archive, tmp_path / "ours.pem")
    for name, words in {
        "absent.pem": "Cannot read",
        "ours.pem": "not a public key in PEM; get it: openssl pkey",
        "curve.pub.pem": "of another kind",
    }.items():
        with pytest.raises(ConfigError, match=words):
            verify_bundle(archive, tmp_path / name)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_openssl_makes_the_keys_and_checks_the_signature(shipped: Path, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> int:
        command = ["openssl", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert openssl("genpkey", "-algorithm", "ed25519", "-out", "key.pem") == 0
    assert openssl("pkey", "-in", "key.pem", "-pubout", "-out", "key.pub.pem") == 0
    pack(shipped, tmp_path / "a.zip", tmp_path / "key.pem")
    unpack(tmp_path / "a.zip", tmp_path / "out", tmp_path / "key.pub.pem")
    verify = ["pkeyutl", "-verify", "-rawin", "-sigfile", "out/manifest.sig"]
    verify += ["-pubin", "-inkey", "key.pub.pem", "-in"]
    assert openssl(*verify, "out/manifest.json") == 0
    assert openssl(*verify, "out/labels.txt") != 0


def test_the_commands_answer_and_exit(shipped: Path, tmp_path: Path) -> None:
    write_keys(tmp_path, "ours")
    archive, out, key = tmp_path / "a.zip", tmp_path / "out", tmp_path / "ours.pub.pem"
    result = invoke("pack", shipped, archive, "--sign", tmp_path / "ours.pem", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["sha256"] == sha256_of(archive)
    assert (answer["bytes"], answer["signed"]) == (archive.stat().st_size, True)
    result = invoke("unpack", archive, out, "--key", key)
    assert (result.exit_code, result.stderr) == (0, "")
    result = invoke("verify-bundle", out, "--key", key, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "passed": True, "fault": None, "model": "tiny", "target": "cpu-int8",
        "model_sha256": sha256_of(shipped / "model.onnx"), "signed": "yes, by this key",
    }  # fmt: skip
    damaged(archive, "run.py", b"")
    result = invoke("unpack", archive, tmp_path / "never")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {archive} is damaged: run.py has 0 bytes")
    result = invoke("verify-bundle", archive)
    assert result.exit_code == 1
    assert "run.py has 0 bytes" in " ".join(result.stdout.split())
    assert invoke("verify-bundle", tmp_path / "absent").exit_code == 2


KILLED = """
import os, sys
from pathlib import Path
from exporter.packing.pack import unpack
left = int(sys.argv[3])
def deadly(name):
    call = getattr(os, name)
    def wrapped(*args, **kwargs):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return call(*args, **kwargs)
    setattr(os, name, wrapped)
for name in ("mkdir", "fsync", "rename", "unlink", "rmdir"):
    deadly(name)
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("moment", [0, 1, 7, 13, 14, 99])
def test_killed_at_any_moment_there_is_a_whole_bundle_or_none(
    shipped: Path, packed: Path, tmp_path: Path, moment: int
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(packed), str(out), str(moment)]
    code = subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode
    assert code == (0 if moment == 99 else 9)
    assert not out.exists() or contents(out) == contents(shipped)
    if not out.exists():
        unpack(packed, out)
    assert contents(out) == contents(shipped)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.zip", "out"]
