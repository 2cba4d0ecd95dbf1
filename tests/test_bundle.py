from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import threading
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from exporter import golden as golden_module
from exporter.artifacts import Artifact
from exporter.bundle import bundle, bundle_path, write_failure
from exporter.contract import InputContract
from exporter.errors import CacheError, DataError, GraphError, OutputError
from exporter.golden import COUNT, TOLERANCE, choose_golden
from exporter.targets import TARGETS, Target
from tests.tiny_bundle import (
    CLASSES,
    CONTRACT,
    TARGET,
    as_it_is,
    tiny_bundle,
    tiny_model,
    tiny_split,
)

FILES = {
    "LICENSE", "README.txt", "golden.npz", "labels.txt", "manifest.json", "model.onnx",
    "recipe.toml", "report.json", "report.md", "run.py", "sbom.cdx.json",
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail(out: Path, text: str = "{}") -> Path:
    return write_failure(
        out, name="tiny", target=TARGET, reports={"report.json": text.encode(), "report.md": b"no"}
    )


def logits_of(model: Path, images: NDArray[Any]) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


def test_a_bundle_holds_what_was_given(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path)
    assert folder == tmp_path / "dist" / "tiny-cpu-int8"
    assert [path.name for path in folder.parent.iterdir()] == ["tiny-cpu-int8"]
    files = contents(folder)
    assert files.keys() == FILES
    assert files["model.onnx"] == (tmp_path / "model.onnx").read_bytes()
    assert files["labels.txt"] == b"ant\nbee\ncat\ndog\n"
    assert files["recipe.toml"] == b'target = "cpu-int8"\n'
    assert files["report.json"] == b'{"passed": true}\n'
    assert files["report.md"] == b"# Report\n"
    assert files["run.py"] == (Path(__file__).parents[1] / "deploy" / "run.py").read_bytes()
    assert files["LICENSE"] == (Path(__file__).parents[1] / "LICENSE").read_bytes()
    assert files["README.txt"].count(b"\n") == 4


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_each_target_has_its_files(tmp_path: Path, target: Target) -> None:
    folder = tiny_bundle(tmp_path, target=target)
    assert folder.name == f"tiny-{target.name}"
    assert contents(folder).keys() == FILES - {"model.onnx"} | set(target.files)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["file"] == target.file_name
    assert manifest["isas"] == list(target.isas)
    session = ort.InferenceSession(folder / target.file_name)
    batch = session.get_inputs()[0].shape[0]
    assert (batch == 1) is target.fixed_batch


def test_the_manifest_describes_every_other_file(tmp_path: Path) -> None:
    files = contents(tiny_bundle(tmp_path))
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["files"] == {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    assert manifest["format_version"] == 1
    assert (manifest["model"], manifest["target"]) == ("tiny", "cpu-int8")
    assert manifest["isas"] == list(TARGET.isas)
    assert manifest["classes"] == list(CLASSES)
    assert manifest["input"] == {
        "name": "image", "type": "uint8", "layout": "NHWC", "height": 8, "width": 6,
        "channels": 3, "zero_point": 128, "scale": 1 / 64, "resize": "crop",
    }  # fmt: skip
    assert manifest["tools"]["onnxruntime"] == version("onnxruntime")
    assert manifest["golden"]["images"] == COUNT


def test_same_inputs_same_bytes(tmp_path: Path) -> None:
    first, second, other = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    for folder in (first, second, other):
        folder.mkdir()
    one = contents(tiny_bundle(first))
    assert contents(tiny_bundle(second)) == one
    changed = contents(tiny_bundle(other, report='{"seconds": 3}\n'))
    assert {name for name in one if one[name] != changed[name]} == {"report.json", "manifest.json"}
    with zipfile.ZipFile(first / "dist/tiny-cpu-int8/golden.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_golden_outputs_are_what_the_shipped_bytes_say(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path)
    images, labels = tiny_split(tmp_path).arrays()
    with np.load(folder / "golden.npz") as arrays:
        golden = dict(arrays)
    assert {name: (array.dtype.name, array.shape) for name, array in golden.items()} == {
        "images": ("uint8", (COUNT, 8, 6, 3)),
        "labels": ("int64", (COUNT,)),
        "logits": ("float32", (COUNT, 4)),
    }
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert [known[image.tobytes()] for image in golden["images"]] == golden["labels"].tolist()
    np.testing.assert_array_equal(
        golden["logits"], logits_of(folder / "model.onnx", golden["images"])
    )
    assert np.bincount(golden["labels"]).tolist() == [COUNT // 4] * 4


def test_golden_images_are_the_closest_calls_that_rounding_cannot_turn(tmp_path: Path) -> None:
    split = tiny_split(tmp_path)
    images, labels = split.arrays()
    model = tiny_model(tmp_path / "model.onnx")
    golden = choose_golden(model, split)
    logits = logits_of(model.path, images)
    assert golden.tolerance == pytest.approx(TOLERANCE * np.abs(logits).max(), rel=1e-6)
    ordered = np.sort(logits, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    assert margins.min() < 2 * golden.tolerance  # there are closer calls, left out
    expected = []
    for label in range(4):
        clear = sorted(margins[(labels == label) & (margins >= 2 * golden.tolerance)])
        expected += clear[: COUNT // 4]
    ordered = np.sort(golden.logits, axis=1)
    assert sorted(ordered[:, -1] - ordered[:, -2]) == pytest.approx(sorted(expected), rel=1e-4)


def test_as_many_classes_as_there_is_room_for(tmp_path: Path) -> None:
    split = tiny_split(tmp_path, count=120, classes=40)
    golden = choose_golden(tiny_model(tmp_path / "m.onnx"), split)
    assert len(set(golden.labels)) == COUNT


def test_few_images_are_all_used_and_many_are_sampled_from_every_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tmp_path / "m.onnx")
    assert len(choose_golden(model, tiny_split(tmp_path, count=1)).labels) == 1
    split = tiny_split(tmp_path)
    labels = np.array([0] * 190 + [1, 2, 3] + [0] * 7)  # three of them far behind
    np.save(split.labels.path, labels)
    monkeypatch.setattr(golden_module, "CANDIDATES", 12)
    golden = choose_golden(model, split)
    assert len(golden.labels) <= 12
    assert set(golden.labels) == {0, 1, 2, 3}


def test_a_model_that_tells_nothing_apart_has_golden_outputs_all_the_same(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m.onnx", gain=0.0)
    golden = choose_golden(model, tiny_split(tmp_path))
    assert (golden.logits.shape, golden.tolerance) == ((COUNT, 4), 0.0)


def test_models_and_splits_that_give_no_golden_outputs_are_refused(tmp_path: Path) -> None:
    artifact = tiny_model(tmp_path / "m.onnx")
    split = tiny_split(tmp_path)
    proto = onnx.load(artifact.path)
    dense = next(entry for entry in proto.graph.initializer if entry.name == "dense")
    dense.CopyFrom(numpy_helper.from_array(np.full((5, 4), np.inf, np.float32), "dense"))
    infinite = tmp_path / "infinite.onnx"
    infinite.write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError, match="not finite"):
        choose_golden(Artifact.of(infinite), split)
    np.save(split.images.path, np.zeros((3, 5, 5, 3), np.uint8))
    np.save(split.labels.path, np.arange(3))
    with pytest.raises(GraphError, match="does not run"):
        choose_golden(artifact, split)
    np.save(split.labels.path, np.zeros(0, np.int64))
    with pytest.raises(DataError, match="validation split is empty"):
        choose_golden(artifact, split)


def test_a_class_name_of_two_lines_takes_one(tmp_path: Path) -> None:
    contract = dataclasses.replace(CONTRACT, classes=("a\nb", "c", "d", "é"))
    folder = bundle_with(tmp_path, contract=contract)
    assert (folder / "labels.txt").read_bytes() == "a b\nc\nd\né\n".encode()
    assert json.loads((folder / "manifest.json").read_bytes())["classes"][0] == "a\nb"


def bundle_with(
    folder: Path, *, contract: InputContract = CONTRACT, model: Artifact | None = None
) -> Path:
    return bundle(
        folder / "dist",
        name="tiny",
        target=TARGET,
        shipped=as_it_is(model or tiny_model(folder / "model.onnx")),
        contract=contract,
        validation=tiny_split(folder),
        recipe="",
        reports={"report.json": b"{}"},
    )


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("edge-vgg", "edge-vgg-cpu-int8"),
        ("my.module:Net", "my.module-Net-cpu-int8"),
        ("../../etc", "etc-cpu-int8"),
        ("...", "model-cpu-int8"),
    ],
)
def test_a_bundle_never_leaves_its_output_folder(name: str, folder: str) -> None:
    assert bundle_path(Path("dist"), name, TARGET) == Path("dist") / folder


def test_an_older_bundle_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path, report='{"old": true}')
    (folder / "left.txt").touch()
    assert tiny_bundle(tmp_path) == folder
    assert contents(folder).keys() == FILES
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_failed_gate_leaves_reports_and_no_bundle(tmp_path: Path) -> None:
    folder = fail(tmp_path / "dist", "{1}")
    assert folder == tmp_path / "dist" / "tiny-cpu-int8.failed"
    assert contents(folder) == {"report.json": b"{1}", "report.md": b"no"}
    assert fail(tmp_path / "dist", "{2}") == folder
    assert contents(folder)["report.json"] == b"{2}"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_later_pass_removes_the_failure_and_a_failure_keeps_an_earlier_pass(
    tmp_path: Path,
) -> None:
    failed = fail(tmp_path / "dist")
    folder = tiny_bundle(tmp_path)
    assert not failed.exists()
    passed = contents(folder)
    assert fail(tmp_path / "dist").is_dir()
    assert contents(folder) == passed


def test_a_folder_of_that_name_that_is_not_ours_stays(tmp_path: Path) -> None:
    failed = tmp_path / "dist" / "tiny-cpu-int8.failed"
    failed.mkdir(parents=True)
    (failed / "notes.txt").write_text("mine")
    tiny_bundle(tmp_path)
    assert contents(failed) == {"notes.txt": b"mine"}
    with pytest.raises(OutputError, match="holds files of another kind"):
        fail(tmp_path / "dist")
    assert contents(failed) == {"notes.txt": b"mine"}


def test_things_in_the_way_are_named_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "dist"
    final = out / "tiny-cpu-int8"
    out.write_text("mine")
    with pytest.raises(OutputError, match=r"Cannot write .*/tiny-cpu-int8: .*--out"):
        tiny_bundle(tmp_path)
    assert out.read_text() == "mine"
    out.unlink()
    out.mkdir()
    final.write_text("mine")
    with pytest.raises(OutputError, match="is in the way"):
        tiny_bundle(tmp_path)
    assert final.read_text() == "mine"
    final.unlink()
    final.mkdir()
    (final / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="another kind"):
        tiny_bundle(tmp_path)
    assert contents(final) == {"thesis.tex": b"mine"}
    (out / "elsewhere").mkdir()
    shutil.rmtree(final)
    final.symlink_to(out / "elsewhere")
    with pytest.raises(OutputError, match="is in the way"):
        tiny_bundle(tmp_path)
    final.unlink()
    final.mkdir()  # an empty folder is in nobody's way
    assert contents(tiny_bundle(tmp_path)).keys() == FILES
    assert sorted(path.name for path in out.iterdir()) == ["elsewhere", "tiny-cpu-int8"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody can write")
def test_a_read_only_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Cannot write /proc/dist/") as caught:
        fail(Path("/proc/dist"))
    assert "\n" not in str(caught.value)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path)
    before = contents(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    model, split = tiny_model(tmp_path / "model.onnx"), tiny_split(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        with pytest.raises(OutputError, match="Free some space"):
            bundle(
                folder.parent, name="tiny", target=TARGET, shipped=as_it_is(model),
                contract=CONTRACT, validation=split, recipe="", reports={"report.json": b"{}"},
            )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_model_that_changed_on_disk_is_not_shipped(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model.onnx")
    model.path.write_bytes(b"other")
    with pytest.raises(CacheError):
        bundle_with(tmp_path, model=model)
    assert not (tmp_path / "dist").exists()


KILLED = """
import os, shutil, sys
from pathlib import Path
from typing import Any
from exporter.bundle import write_failure
from exporter.targets import find_target
left = int(sys.argv[2])
def deadly(name, module, call):
    def wrapped(*args, **kwargs):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return call(*args, **kwargs)
    setattr(module, name, wrapped)
for module, name in [(os, "mkdir"), (os, "fsync"), (os, "rename"), (os, "unlink"), (os, "rmdir")]:
    deadly(name, module, getattr(module, name))
write_failure(Path(sys.argv[1]), name="tiny", target=find_target("cpu-int8"),
              reports={"report.json": b"new", "report.md": b"new"})
"""


def test_killed_at_any_moment_the_folder_is_whole_and_the_next_run_mends_the_rest(
    tmp_path: Path,
) -> None:
    old = {"report.json": b"old", "report.md": b"old"}
    new = {"report.json": b"new", "report.md": b"new"}
    seen = []
    for moment in range(100):
        out = tmp_path / str(moment)
        final = out / "tiny-cpu-int8.failed"
        final.mkdir(parents=True)
        for name, data in old.items():
            (final / name).write_bytes(data)
        command = [sys.executable, "-c", KILLED, str(out), str(moment)]
        code = subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode
        if final.exists():
            assert contents(final) in (old, new)
            seen.append("old" if contents(final) == old else "new")
        else:
            assert contents(out / ".tiny-cpu-int8.failed.aside") == old
            seen.append("aside")
        fail(out, "again")
        assert contents(final) == {"report.json": b"again", "report.md": b"no"}
        assert [path.name for path in out.iterdir()] == [final.name]
        if code == 0:
            break
        assert code == 9
    assert code == 0
    assert set(seen) == {"old", "aside", "new"}


def test_a_bundle_moved_aside_comes_back_even_if_the_next_run_fails(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path)
    before = contents(folder)
    aside = folder.with_name(f".{folder.name}.aside")
    folder.rename(aside)
    (folder.parent / f".{folder.name}.partial").write_text("in the way")
    with pytest.raises(OutputError):
        tiny_bundle(tmp_path)
    assert contents(folder) == before
    assert not aside.exists()


def test_two_builds_at_once_leave_one_whole_result(tmp_path: Path) -> None:
    texts = [f"{number}" * 1000 for number in range(4)]
    threads = [
        threading.Thread(target=lambda text=text: [fail(tmp_path, text) for _ in range(5)])
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-cpu-int8.failed"]
    assert contents(tmp_path / "tiny-cpu-int8.failed")["report.json"].decode() in texts
