"""Damaged files: does every reader of what others may have made refuse them in one line?

Usage::

    exporter build --target cpu-int8
    python -m benchmarks.mutations dist/edge-vgg-cpu-int8 --inputs 12000

Each kind of file is taken whole, changed in one to four places (bytes flipped, cut out, doubled,
numbers and brackets put in) and read. Right outcomes are a refusal of one line, or a result as good
as the whole file's; for an archive that means the very same files. A traceback, more than ten
seconds, or a file outside the output folder is wrong. Exit code 1 if anything was.
"""

from __future__ import annotations

import argparse
import io
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

from deploy import run
from exporter.artifacts import RESULT, save_result
from exporter.checkpoint import save_checkpoint
from exporter.contract import InputContract
from exporter.data.decode import decode_image
from exporter.device.answer import device_report, parse_answer
from exporter.device.merge import read_report
from exporter.errors import ExporterError
from exporter.finished import load_checkpoint
from exporter.graph.limits import read_model
from exporter.intake.read import read_float_model
from exporter.models.family import ModelRef, build_model
from exporter.models.weights import read_state
from exporter.packing.archive import zip_of
from exporter.packing.contents import MANIFEST, check_contents, read_folder
from exporter.packing.pack import unpack
from exporter.recipe import read_recipe
from exporter.training.augmentation import Augmentation
from exporter.training.loop import History, Lesson
from exporter.training.resume import Epoch
from exporter.training.train import Trained

SECONDS = 10
CONTRACT = InputContract(height=20, width=20, classes=("ant", "bee"))
PUT_IN = (
    b"\x00",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"-1",
    b"1e999",
    b"[" * 5000,
    b'"',
    b"../",
    b"}",
)
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of file: a whole one, and what reads it."""

    name: str
    whole: bytes
    read: Read


@dataclass
class Outcome:
    """What became of the damaged files of one kind."""

    refused: int = 0
    taken: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    """Print a Markdown table with a row per kind of file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a bundle that `exporter build` wrote")
    parser.add_argument("--inputs", type=int, default=12_000, help="damaged files, all kinds")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_slow)
    random = np.random.default_rng(arguments.seed)
    print("| file | damaged | refused | taken | slowest, ms | wrong |\n|---|---|---|---|---|---|")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mutations-") as name:
        every = kinds(arguments.bundle, Path(name))
        for kind in every:
            (Path(name) / "out").mkdir(exist_ok=True)
            found = outcome(kind, arguments.inputs // len(every), random, Path(name) / "out")
            print(
                f"| {kind.name} | {found.refused + found.taken + len(found.wrong)} "
                f"| {found.refused} | {found.taken} | {1e3 * found.slowest:.0f} "
                f"| {len(found.wrong)} |",
                flush=True,
            )
            wrong += found.wrong
    print("\n".join(sorted(set(wrong))), file=sys.stderr)
    sys.exit(1 if wrong else 0)


def kinds(bundle: Path, folder: Path) -> list[Kind]:
    """Return what is damaged; ``folder`` is for what readers need beside the file."""
    files = read_folder(bundle)
    deflated = io.BytesIO()
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    copy = folder / "copy"
    shutil.copytree(bundle, copy)
    answer = folder / "device.json"
    with redirect_stdout(io.StringIO()):
        run.main(["--bundle", str(bundle), "--no-latency", "--out", str(answer)])
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    npy = io.BytesIO()
    np.save(npy, pixels)
    return [
        Kind("archive", zip_of(files), _unpacks_to(files)),
        Kind("archive, deflated", deflated.getvalue(), _unpacks_to(files)),
        Kind("manifest.json, by exporter", files[MANIFEST], _manifest(files)),
        Kind("manifest.json, by run.py", files[MANIFEST], _by_runner(copy)),
        Kind("device.json", answer.read_bytes(), _answer),
        Kind("report.json", files["report.json"], read_report),
        Kind("recipe.toml", files["recipe.toml"], read_recipe),
        Kind("model.onnx", files["model.onnx"], read_model),
        Kind("somebody's float .onnx", _float_model(), read_float_model),
        Kind("weights, .safetensors", safetensors.torch.save(_weights()), read_state),
        Kind("weights, .pt", _saved(_weights()), read_state),
        Kind("weights, .pt of torch 1.5", _saved(_weights(), zipped=False), read_state),
        Kind("result.json of a checkpoint", _result(folder), _checkpoint),
        Kind("PNG", _picture(pixels, "PNG"), run.decode),
        Kind("BMP", _picture(pixels, "BMP"), run.decode),
        Kind("PPM", _picture(pixels, "PPM"), run.decode),
        Kind("JPEG", _picture(pixels, "JPEG"), run.decode),
        Kind(".npy", npy.getvalue(), run.decode),
        *(
            Kind(f"{form}, by exporter", _picture(pixels, form), _decode)
            for form in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
        ),
    ]


def outcome(kind: Kind, inputs: int, random: np.random.Generator, folder: Path) -> Outcome:
    """Return what becomes of so many damaged files of one kind."""
    found = Outcome()
    path = folder / "input"
    for _ in range(inputs):
        path.write_bytes(damaged(kind.whole, random))
        start = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            kind.read(path)
            found.taken += 1
        except (ExporterError, run.Problem) as error:
            if "\n" in str(error):
                found.wrong.append(f"{kind.name}: a message of several lines")
            else:
                found.refused += 1
        except Exception as error:  # what is looked for
            found.wrong.append(f"{kind.name}: {type(error).__name__}: {error}"[:200])
        finally:
            signal.alarm(0)
        found.slowest = max(found.slowest, time.perf_counter() - start)
        if {entry.name for entry in folder.iterdir()} != {"input"}:
            found.wrong.append(f"{kind.name}: something was left behind")
            shutil.rmtree(folder)
            folder.mkdir()
    return found


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """Return the file changed in one to four places."""
    data = bytearray(whole)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(0, len(data) + 1))
        length = int(random.integers(1, 9))
        match int(random.integers(0, 5)):
            case 0:
                data[at : at + length] = random.bytes(len(data[at : at + length]))
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at : at + length] = PUT_IN[int(random.integers(0, len(PUT_IN)))]
            case _:
                if random.integers(0, 4) == 0:
                    del data[at:]
                else:
                    data[at : at + 1] = bytes(b ^ (1 << at % 8) for b in data[at : at + 1])
    return bytes(data)


def _unpacks_to(files: Mapping[str, bytes]) -> Read:
    def read(path: Path) -> None:
        out = path.with_name("unpacked")
        unpack(path, out)
        same = {entry.name: entry.read_bytes() for entry in out.iterdir()} == files
        shutil.rmtree(out)
        if not same:
            raise AssertionError("other files came out than went in")

    return read


def _manifest(files: Mapping[str, bytes]) -> Read:
    return lambda path: check_contents(path, {**files, MANIFEST: path.read_bytes()})


def _by_runner(copy: Path) -> Read:
    def read(path: Path) -> None:
        (copy / MANIFEST).write_bytes(path.read_bytes())
        run.check_files(copy, run.read_manifest(copy), [])

    return read


def _answer(path: Path) -> object:
    return device_report(parse_answer(path.read_bytes(), "it"), "it")


def _decode(path: Path) -> object:
    return decode_image(path, CONTRACT)


def _checkpoint(path: Path) -> object:
    shutil.copy(path, path.parent.with_name("checkpoint") / RESULT)
    return load_checkpoint(path.parent.with_name("checkpoint"))


def _result(folder: Path) -> bytes:
    """Return what a stage writes beside a checkpoint, and make its folder."""
    made = folder / "checkpoint"
    made.mkdir()
    ref = ModelRef(name="edge-vgg", widths=(16, 16, 16))
    module = build_model(ref, CONTRACT)
    checkpoint = save_checkpoint(made, module, ref, CONTRACT, {"stem": (0, 2, 5)})
    lesson = Lesson(
        epochs=1,
        batch_size=8,
        learning_rate=0.1,
        label_smoothing=0.1,
        augmentation=Augmentation(flip=False, translate=2, cutout=0),
        seed=0,
    )
    history = History(epochs=(Epoch(loss=1.0, validation_top1=50.0),), images_per_second=1.0)
    save_result(made, Trained(checkpoint=checkpoint, lesson=lesson, history=history))
    return (made / RESULT).read_bytes()


def _weights() -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.randn(4, 3, 3, 3), "conv.bias": torch.zeros(4)}


def _saved(weights: object, *, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(weights, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _float_model() -> bytes:
    weights = numpy_helper.from_array(np.ones((3, 4), np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["logits"]),
        ],
        "float",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [weights],
    )
    opset = helper.make_opsetid("", 13)
    return bytes(helper.make_model(graph, opset_imports=[opset]).SerializeToString())


def _picture(pixels: np.ndarray, form: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


if __name__ == "__main__":
    main()
