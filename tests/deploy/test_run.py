from __future__ import annotations

import ast
import gc
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

import deploy.run
from exporter.data.decode import decode_image
from exporter.packing.contents import FORMAT_VERSION
from exporter.targets import TARGETS
from tests.tiny_bundle import CLASSES, CONTRACT, tiny_bundle


def run(
    *arguments: object, folder: Path, script: str = "run.py"
) -> subprocess.CompletedProcess[str]:
    """Run the bundle's own runner from inside its folder, as a person would."""
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def said(result: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """Return the one line on stderr of a run that ended with this exit code."""
    assert result.returncode == exit_code, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("run.py: ")
    return lines[0]


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change entries of the manifest and bring its hashes up to date."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_bytes()), **changes}
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    path.write_text(json.dumps(manifest))


def golden(folder: Path) -> dict[str, NDArray[Any]]:
    with np.load(folder / "golden.npz") as arrays:
        return dict(arrays)


def write_golden(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    np.savez(folder / "golden.npz", images=arrays["images"], logits=arrays["logits"])


def test_an_untouched_bundle_passes_in_words(shipped: Path) -> None:
    result = run("--no-latency", folder=shipped)
    assert (result.returncode, result.stderr) == (0, "")
    first, second, third = result.stdout.splitlines()
    assert first == "tiny for cpu-int8: 11 files as shipped"
    assert second.startswith("golden outputs: 32 of 32 classes agree, largest difference 0.0,")
    assert f"onnxruntime {ort.__version__}" in third
    assert {path.name for path in shipped.iterdir()} == {
        "LICENSE",
        "README.txt",
        "golden.npz",
        "labels.txt",
        "manifest.json",
        "model.onnx",
        "recipe.toml",
        "report.json",
        "report.md",
        "run.py",
        "sbom.cdx.json",
    }  # fmt: skip - the run leaves nothing behind


def test_json_is_one_document_with_the_measured_latency(shipped: Path) -> None:
    result = run("--json", "--threads", 2, folder=shipped)
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["passed"] is True
    assert document["error"] is None
    assert document["files"] == 11
    tolerance = json.loads((shipped / "manifest.json").read_bytes())["golden"]["tolerance"]
    assert document["golden"] == {
        "passed": True, "images": 32, "agree": 32, "difference": 0.0,
        "tolerance": pytest.approx(tolerance, rel=0.01),
    }  # fmt: skip
    latency = document["latency"]
    assert latency["runs"] >= 200
    assert 0 < latency["median_ms"] <= latency["p90_ms"]
    assert latency["threads"] == 2
    if hasattr(os, "sched_getaffinity"):
        usable = os.sched_getaffinity(0)
        assert len(latency["pinned_cpus"]) == min(2, len(usable))
        assert set(latency["pinned_cpus"]) <= usable
    assert document["machine"]["onnxruntime"] == ort.__version__
    assert document["machine"]["cpus"] == os.cpu_count()


def change(folder: Path) -> None:
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (change, "model.onnx has changed"),
    "truncated": (truncate, "model.onnx has 944 bytes instead of 1044"),
    "missing": (lambda folder: (folder / "labels.txt").unlink(), "labels.txt is missing"),
    "extra": (lambda folder: (folder / "x.bin").touch(), "x.bin is not part of it"),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "manifest.json is missing",
    ),
    "no text": (
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff\x00{"),
        "manifest.json cannot be read",
    ),
    "no object": (
        lambda folder: (folder / "manifest.json").write_text("[]"),
        "manifest.json cannot be read",
    ),
    "no classes": (
        lambda folder: edit_manifest(folder, classes=None),
        "manifest.json cannot be read",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(copy: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    damage(copy)
    assert said(run(folder=copy), 1).endswith(f"{words}.")


def test_all_damages_are_named_at_once_and_json_says_so_too(copy: Path) -> None:
    change(copy)
    (copy / "run.txt").touch()
    result = run("--json", folder=copy)
    line = said(result, 1)
    assert "model.onnx has changed; run.txt is not part of it" in line
    document = json.loads(result.stdout)
    assert document["passed"] is False
    assert document["error"] in line
    assert document["golden"] is None


def test_an_empty_file_is_a_file(copy: Path) -> None:
    (copy / "recipe.toml").write_bytes(b"")
    edit_manifest(copy)
    assert run("--no-latency", folder=copy).returncode == 0


def test_a_manifest_cannot_point_outside_its_folder(copy: Path) -> None:
    (copy.parent / "secret").write_text("s")
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["files"]["../secret"] = {}
    edit_manifest(copy, files=manifest["files"])
    assert said(run(folder=copy), 1).endswith("manifest.json cannot be read.")


def test_another_format_is_refused(copy: Path) -> None:
    edit_manifest(copy, format_version=FORMAT_VERSION + 1)
    assert f"has format {FORMAT_VERSION + 1}, this run.py reads {FORMAT_VERSION}" in said(
        run(folder=copy), 2
    )


@pytest.mark.parametrize(("share", "exit_code"), [(0.9, 0), (1.1, 1), (np.nan, 1)])
def test_a_logit_may_differ_by_the_tolerance(copy: Path, share: float, exit_code: int) -> None:
    arrays = golden(copy)
    tolerance = json.loads((copy / "manifest.json").read_bytes())["golden"]["tolerance"]
    arrays["logits"][3, arrays["logits"][3].argmin()] += np.float32(share * tolerance)
    write_golden(copy, arrays)
    edit_manifest(copy)
    result = run("--json", "--no-latency", folder=copy)
    assert result.returncode == exit_code
    document = json.loads(result.stdout)
    assert document["golden"]["passed"] is (exit_code == 0)
    expected = None if np.isnan(share) else pytest.approx(share * tolerance, rel=0.01)
    assert document["golden"]["difference"] == expected
    if exit_code:
        assert f"largest difference {document['golden']['difference']}" in said(result, 1)


def test_another_winner_is_a_mismatch_even_within_the_tolerance(copy: Path) -> None:
    arrays = golden(copy)
    first, second = np.argsort(arrays["logits"][5])[[-1, -2]]
    arrays["logits"][5, [first, second]] = arrays["logits"][5, [second, first]]
    write_golden(copy, arrays)
    edit_manifest(copy, golden={"tolerance": 1e6}, isas=["z80"])
    line = said(run("--no-latency", folder=copy), 1)
    assert "31 of 32 classes agree" in line
    if deploy.run.machine()["isas"]:
        assert line.endswith("the model is for z80.")


def test_a_file_onnxruntime_cannot_load_is_one_line(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"not a model")
    edit_manifest(copy)
    assert f"onnxruntime {ort.__version__} cannot load model.onnx" in said(run(folder=copy), 2)


def test_golden_images_of_another_size_are_one_line(copy: Path) -> None:
    arrays = golden(copy)
    arrays["images"] = arrays["images"][:, :-1]
    write_golden(copy, arrays)
    edit_manifest(copy)
    assert "does not run on its golden images" in said(run(folder=copy), 1)


def test_images_are_classified_as_the_model_does(shipped: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    paths = [tmp_path / "a.png", tmp_path / "b.bmp"]
    for path, shape in zip(paths, [(30, 40, 3), (9, 7, 3)], strict=True):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
    result = run("--json", "--no-latency", *paths, folder=shipped)
    assert result.returncode == 0
    session = ort.InferenceSession(shipped / "model.onnx", providers=["CPUExecutionProvider"])
    answers = json.loads(result.stdout)["images"]
    assert [answer["path"] for answer in answers] == [str(path) for path in paths]
    for path, answer in zip(paths, answers, strict=True):
        (logits,) = session.run(None, {"image": decode_image(path, CONTRACT)[None]})[0]
        odds = np.exp(logits.astype(float))
        best = np.argsort(-odds)[:3]
        assert [entry["class"] for entry in answer["top"]] == [CLASSES[i] for i in best]
        measured = [entry["probability"] for entry in answer["top"]]
        # one grey level may stand between two versions of Pillow
        assert measured == pytest.approx(odds[best] / odds.sum(), abs=0.02)


def test_an_image_in_the_bundle_folder_is_no_damage_when_it_is_asked_for(copy: Path) -> None:
    Image.new("RGB", (6, 8)).save(copy / "mine.png")
    assert "mine.png is not part of it" in said(run(folder=copy), 1)
    result = run("--no-latency", "mine.png", folder=copy)
    assert result.returncode == 0
    assert result.stdout.splitlines()[2].startswith("mine.png: ")


def test_a_bad_image_is_one_line_that_names_it(shipped: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-30])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("cut.png", "text.png", "absent.png", "."):
        result = run("--json", tmp_path / "good.png", tmp_path / name, folder=shipped)
        assert str(tmp_path / name) in said(result, 2)
        assert json.loads(result.stdout)["passed"] is False


@pytest.mark.parametrize("threads", ["0", "-1", "x", "1025"])
def test_a_wrong_number_of_threads_is_refused(shipped: Path, threads: str) -> None:
    result = run("--threads", threads, folder=shipped)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"'{threads}' is not a whole number from 1 to 1024" in result.stderr


def test_run_py_finds_the_bundle_beside_it(shipped: Path, tmp_path: Path) -> None:
    shutil.copy(shipped / "run.py", tmp_path)
    assert "There is no bundle beside" in said(run(folder=tmp_path), 2)
    shutil.copytree(shipped, tmp_path / "one")
    shutil.copytree(shipped, tmp_path / ".one.aside")
    result = run("--json", "--no-latency", folder=tmp_path)
    assert Path(json.loads(result.stdout)["bundle"]).name == "one"
    shutil.copytree(shipped, tmp_path / "two")
    assert "several bundles" in said(run(folder=tmp_path), 2)
    assert run("--no-latency", "--bundle", "two", folder=tmp_path).returncode == 0
    assert "three is not a folder" in said(run("--bundle", "three", folder=tmp_path), 2)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_bundle_that_passes(tmp_path: Path, name: str) -> None:
    folder = tiny_bundle(tmp_path, target=TARGETS[name])
    Image.new("RGB", (9, 12), "blue").save(tmp_path / "blue.png")
    result = run("--json", "--no-latency", tmp_path / "blue.png", folder=folder)
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["target"] == name
    assert document["golden"]["agree"] == 32
    assert len(document["images"][0]["top"]) == 3


def test_damage_to_the_file_that_the_device_loads_is_named(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path, target=TARGETS["mobile-int8"])
    (folder / "model.ort").unlink()
    assert said(run(folder=folder), 1).endswith("model.ort is missing.")
    edit = json.loads((folder / "manifest.json").read_bytes())
    del edit["files"]["model.ort"]
    (folder / "manifest.json").write_text(json.dumps(edit))
    assert said(run(folder=folder), 1).endswith("manifest.json cannot be read.")


def test_a_manifest_that_names_no_file_means_model_onnx(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_bytes())
    del manifest["file"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert run("--no-latency", folder=copy).returncode == 0


def test_python_3_9_can_read_the_runner() -> None:
    source = Path(deploy.run.__file__).read_text()
    ast.parse(source, feature_version=(3, 9))


def labelled(folder: Path, count: int, kind: str = "png") -> None:
    random = np.random.default_rng(1)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (12, 9, 3), dtype=np.uint8)
            if kind == "npy":
                np.save(folder / name / f"{number}.npy", pixels)
            else:
                Image.fromarray(pixels).save(folder / name / f"{number}.{kind}")


def test_top_1_is_counted_on_a_folder_and_on_the_same_images_in_one_file(
    shipped: Path, tmp_path: Path
) -> None:
    labelled(tmp_path / "data", count=5, kind="npy")
    (tmp_path / "data" / ".hidden").mkdir()
    manifest = deploy.run.read_manifest(shipped)
    pairs = list(deploy.run.labelled_images(tmp_path / "data", manifest))
    images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    assert labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    session = ort.InferenceSession(shipped / "model.onnx", providers=["CPUExecutionProvider"])
    correct = int((session.run(None, {"image": images})[0].argmax(axis=1) == labels).sum())
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    for name in ("data", "data.npz"):
        result = run("--json", "--no-latency", "--data", tmp_path / name, folder=shipped)
        assert (result.returncode, result.stderr) == (0, "")
        assert json.loads(result.stdout)["accuracy"] == {
            "data": str(tmp_path / name), "top1": 5 * correct, "correct": correct, "total": 20,
        }  # fmt: skip


def test_data_that_cannot_be_used_is_one_line(shipped: Path, tmp_path: Path) -> None:
    labelled(tmp_path / "data", count=1)
    (tmp_path / "data" / "cow").mkdir()
    (tmp_path / "empty").mkdir()
    good = np.zeros((2, 8, 6, 3), np.uint8)
    np.savez(tmp_path / "float.npz", images=good.astype(float), labels=np.zeros(2, int))
    np.savez(tmp_path / "few.npz", images=good, labels=np.zeros(1, int))
    np.savez(tmp_path / "none.npz", images=good[:0], labels=np.zeros(0, int))
    np.savez(tmp_path / "beyond.npz", images=good, labels=np.array([0, 4]))
    np.savez(tmp_path / "other.npz", pixels=good)
    for name, words in {
        "data": "cow: the model does not know this class, but ant, bee, cat, dog",
        "empty": "holds no images; FOLDER/CLASS/image is looked for",
        "absent": "is neither a folder of classes nor an .npz file",
        "float.npz": "images are float64",
        "few.npz": "labels are int64 [1]",
        "none.npz": "images are uint8 [0, 8, 6, 3]",
        "beyond.npz": "labels are not in 0 to 3",
        "other.npz": "is neither a folder",
    }.items():
        assert words in said(run("--no-latency", "--data", tmp_path / name, folder=shipped), 2)


def test_out_is_what_json_prints_and_never_in_the_bundle(shipped: Path, tmp_path: Path) -> None:
    out = tmp_path / "device.json"
    result = run("--json", "--no-latency", "--out", out, folder=shipped)
    assert result.returncode == 0
    assert out.read_text() == result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["device.json"]
    model = hashlib.sha256((shipped / "model.onnx").read_bytes()).hexdigest()
    assert json.loads(out.read_bytes())["model_sha256"] == model
    result = run("--no-latency", "--out", "device.json", folder=shipped)
    assert (result.returncode, result.stdout) == (2, "")
    assert "'device.json' would change the bundle" in result.stderr
    result = run("--no-latency", "--out", tmp_path / "no" / "device.json", folder=shipped)
    assert result.returncode == 2
    assert result.stderr.startswith("run.py: cannot write ")


def test_what_failed_is_written_too(copy: Path, tmp_path: Path) -> None:
    change(copy)
    out = tmp_path / "device.json"
    said(run("--out", out, folder=copy), 1)
    document = json.loads(out.read_bytes())
    assert (document["passed"], document["golden"]) == (False, None)


def test_a_signature_is_part_of_a_bundle(copy: Path) -> None:
    (copy / "manifest.sig").write_bytes(b"s" * 64)
    assert run("--no-latency", folder=copy).returncode == 0


def test_a_manifest_too_deep_to_read_is_one_line(copy: Path) -> None:
    (copy / "manifest.json").write_text("[" * 100_000)
    assert said(run(folder=copy), 1).endswith("manifest.json cannot be read.")


def test_heat_and_clock_are_read_where_the_system_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy.run, "SYS", tmp_path)
    monkeypatch.setattr(deploy.run, "PROC", tmp_path / "proc")
    unknown = {"temperature_c": None, "frequency_mhz": None}
    assert deploy.run.conditions([1]) == unknown
    assert deploy.run.governor([1]) is None
    assert deploy.run.peak_memory_mb() is None
    for name, text in {
        "class/thermal/thermal_zone0/temp": "48125\n",
        "class/thermal/thermal_zone1/temp": "asleep\n",
        "class/hwmon/hwmon0/temp1_input": "51500\n",
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
        "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1500000\n",
        "devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand\n",
        "proc/self/status": "VmPeak:\t9 kB\nVmHWM:\t   70000 kB\n",
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert deploy.run.conditions([1]) == {"temperature_c": 51.5, "frequency_mhz": 1500}
    assert deploy.run.conditions([0, 1])["frequency_mhz"] == 2400
    assert deploy.run.governor([1]) == "ondemand"
    assert deploy.run.peak_memory_mb() == 71.7
    assert deploy.run.machine()["isas"] == [] or platform.machine() == "aarch64"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    machine = deploy.run.machine()
    assert machine["processor"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert machine["isas"] == ["arm64-neon", "arm64-dotprod"]


def test_the_interval_of_a_median_by_hand() -> None:
    values = np.arange(100.0)[::-1].copy()
    # ranks (100 - 1.96 * 10) / 2 = 40.2 and (100 + 1.96 * 10) / 2 + 1 = 60.8 of 1 to 100
    assert deploy.run.median_interval(values) == [39.0, 60.0]
    assert deploy.run.median_interval(np.arange(10.0)) == [0.0, 9.0]
    assert deploy.run.median_interval(np.arange(9.0)) is None


def test_slow_models_are_timed_in_short_blocks_and_the_collector_is_put_back(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def tick() -> int:
        return int(now * 1e9)

    def network(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal now
        assert not gc.isenabled()
        now += 0.125
        return np.zeros((1, 4), np.float32)

    monkeypatch.setattr(time, "perf_counter_ns", tick)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    timing = deploy.run.measure(network, shipped)
    assert gc.isenabled()
    assert timing["runs"] == timing["blocks"] == 20
    assert timing["median_ms"] == 125
    assert timing["median_ci_ms"] == [125, 125]
