"""This tool's int8 files against those of other quantizers: same float network, same images.

Contenders, each in a process of its own, so that its time and its peak memory are its own:

* ours: activation ranges by four methods, chosen on validation images; raw pixels in
* ONNX Runtime's ``quantize_static`` with its defaults, and by hand: ``quant_pre_process``, U8S8 in
  QDQ form, per channel, float logits, each of its calibrators, full range or reduce_range
* NNCF on the ONNX file and on OpenVINO's form of it: as it comes, and with mixed preset and full
  bias correction

All are given the same calibration images. The others get the network behind its input side and
normalised floats, made for them at no cost. Then all files are classified and timed in one process,
in turns (``benchmarks.interleaved``), those for OpenVINO in OpenVINO, ours in both. Drops are
against the float file on the same test images.

NNCF and OpenVINO are no dependencies of this project. They go into an environment of their own::

    python3.11 -m venv others
    others/bin/pip install nncf openvino onnxruntime==1.32.0 onnx pillow

Usage::

    python -m benchmarks.against_quantizers --model FLOAT.onnx --data FOLDER
        [--python others/bin/python] [--model ANOTHER.onnx] [--calibration-images 512]
        [--contenders "ours;ORT, defaults"] [--seconds 60] [--isa avx2] [--isa-images 1000]
        [--cache FOLDER] [--json FILE]

FLOAT.onnx is what ``exporter convert`` writes. Without ``--python`` the contenders that need NNCF
are skipped. ``--isa`` adds the top-1 on an emulated CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.interleaved import Plan, Subject, write_plan
from benchmarks.quantizers import CONTENDERS, MISSING, Job, normalized, write_job
from exporter.artifacts import Cache
from exporter.config import DataConfig
from exporter.contract import InputContract
from exporter.data.load import load_splits
from exporter.data.splits import Split
from exporter.emulation.emulator import find_emulator
from exporter.emulation.predict import run_emulated, sample
from exporter.graph.contract import detach_image
from exporter.graph.model import read_onnx_model
from exporter.verification.accuracy import accuracy, compare
from exporter.verification.latency import AGAIN, summarize
from exporter.verification.paired import paired_ratio

FLOAT = "float"
OWN = "ours"
IN_OPENVINO = " in OpenVINO"
RAW, FLOATS = "bytes.npy", "floats.npy"
HEADER = (
    "file", "top-1 %", "points lost (95 % CI)", "KB", "p50 ms", "time of ours (95 % CI)",
    "seconds to make", "peak MB", "of it imports",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A contender's file."""

    name: str
    path: Path
    figures: dict[str, Any]

    @property
    def size_bytes(self) -> int:
        """Of the file, with its weights where they lie beside it."""
        weights = self.path.with_suffix(".bin")
        return self.path.stat().st_size + (weights.stat().st_size if weights.exists() else 0)


def make(name: str, job: Path, folder: Path, python: str) -> Made | str:
    """Let one contender work; returns why there is no file where there is none."""
    out = folder / "-".join(name.replace(",", "").split())
    out.mkdir()
    if not name.startswith((OWN, "ORT")) and not python:
        return "needs NNCF, which --python can bring"
    interpreter = sys.executable if name.startswith((OWN, "ORT")) else python
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [interpreter, "-m", "benchmarks.quantizers", name, str(job), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return f"not installed: {last}" if done.returncode == MISSING else f"failed: {last}"
    (path,) = (path for path in (out / "model.onnx", out / "model.xml") if path.exists())
    return Made(name=name, path=path, figures=json.loads((out / "figures.json").read_text()))


def subjects_of(model: Path, made: list[Made], folder: Path, python: str) -> tuple[Subject, ...]:
    """Return what is classified and timed: ours first, then the float file and all others."""

    def subject(name: str, path: Path, runtime: str) -> Subject:
        raw = name.startswith((OWN, FLOAT))
        images = folder / (RAW if raw else FLOATS)
        return Subject(name=name, path=str(path), runtime=runtime, images=str(images))

    found = [
        subject(each.name, each.path, "openvino" if each.path.suffix == ".xml" else "onnxruntime")
        for each in made
    ]
    found.append(subject(FLOAT, model, "onnxruntime"))
    if python and any(each.runtime == "openvino" for each in found):
        paths = {each.name: each.path for each in made} | {FLOAT: model}
        found += [
            subject(name + IN_OPENVINO, paths[name], "openvino")
            for name in (OWN, FLOAT)
            if name in paths
        ]
    return tuple(sorted(found, key=lambda each: each.name != OWN))  # stable: the rest stays


def prepare(model: Path, arguments: argparse.Namespace, folder: Path) -> tuple[Job, Split]:
    """Put what contenders and runtimes read into ``folder``; return the job and the test images."""
    cache = arguments.cache or folder / "cache"
    config = DataConfig(data=arguments.data, calibration_images=arguments.calibration_images)
    splits = load_splits(Cache(cache), config)
    contract = read_onnx_model(model).contract
    core = onnx.load(model)
    detach_image(core, contract)
    onnx.save(core, folder / "core.onnx")
    mean, std = _normalization(contract)
    job = Job(
        model=str(model.absolute()),
        core=str(folder / "core.onnx"),
        data=arguments.data,
        calibration_images=arguments.calibration_images,
        cache=str(cache),
        pixels=str(splits.calibration.images.path.absolute()),
        mean=mean,
        std=std,
    )
    pixels, _ = splits.test.arrays()
    np.save(folder / RAW, pixels)
    np.save(folder / FLOATS, normalized(pixels, job))
    return job, splits.test


def _normalization(contract: InputContract) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if contract.mean:
        return contract.mean, contract.std
    return (float(contract.zero_point),), (1 / contract.scale,)


def emulated(subject: Subject, isa: str, labels: NDArray[np.int64], count: int) -> float:
    """Return the top-1 of a file on an emulated CPU, in percent."""
    chosen = sample(labels, count)
    with tempfile.TemporaryDirectory() as name:
        images = Path(name) / "images.npy"
        np.save(images, np.load(subject.images, mmap_mode="r")[chosen])
        emulator = find_emulator(isa)
        logits = run_emulated(emulator, Path(subject.path), images, len(chosen), Path(name))
    return accuracy(logits, labels[chosen]).top1


def measure(model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all figures of one network."""
    names = [name for name in CONTENDERS if _asked(name, arguments.contenders)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job, test = prepare(model, arguments, folder)
        write_job(job, folder / "job.json")
        tried = {name: make(name, folder / "job.json", folder, arguments.python) for name in names}
        made = [each for each in tried.values() if isinstance(each, Made)]
        subjects = subjects_of(model, made, folder, arguments.python)
        write_plan(Plan(subjects=subjects, seconds=arguments.seconds), folder / "plan.json")
        command = [arguments.python or sys.executable, "-m", "benchmarks.interleaved"]
        subprocess.run([*command, str(folder / "plan.json"), str(folder)], check=True)
        order = [each.name for each in subjects]
        logits = {name: np.load(folder / f"logits-{at}.npy") for at, name in enumerate(order)}
        times = {
            name: np.load(folder / f"times-{at}.npy") for at, name in enumerate([*order, AGAIN])
        }
        labels = test.arrays()[1]
        by_name = {each.name: each for each in made}
        rng = np.random.default_rng(0)
        middles = {name: np.median(found, axis=1) for name, found in times.items()}
        rows = []
        for subject in subjects:
            found = by_name.get(subject.name)
            change = compare(logits[FLOAT], logits[subject.name], labels)
            ratio = paired_ratio(middles[subject.name], middles[OWN], rng)
            row: dict[str, Any] = {
                "name": subject.name,
                "top1": accuracy(logits[subject.name], labels).top1,
                "drop": change.drop_points,
                "drop_ci": change.drop_ci,
                "bytes": found.size_bytes if found else Path(subject.path).stat().st_size,
                "p50_ms": summarize(times[subject.name]).p50_ms,
                "time_of_ours": (ratio.value, ratio.low, ratio.high),
                "figures": found.figures if found else None,
            }
            better = compare(logits[OWN], logits[subject.name], labels)
            row["lost_against_ours"] = (better.drop_points, *better.drop_ci, better.mcnemar_p)
            if arguments.isa and subject.runtime == "onnxruntime" and subject.name != FLOAT:
                row["emulated_top1"] = emulated(
                    subject, arguments.isa, labels, arguments.isa_images
                )
            rows.append(row)
        noise = paired_ratio(middles[AGAIN], middles[OWN], rng)
    return {
        "model": str(model),
        "images": len(labels),
        "rows": rows,
        "skipped": {name: why for name, why in tried.items() if isinstance(why, str)},
        "same_file_twice": (noise.value, noise.low, noise.high),
    }


def _asked(name: str, contenders: str) -> bool:
    """Return whether a contender's name, up to its comma or whole, is in the list."""
    return not contenders or any(name.startswith(part.strip()) for part in contenders.split(";"))


def table(found: dict[str, Any], isa: str) -> list[str]:
    """Return the Markdown table of one network."""
    header = [*HEADER, *([f"top-1 % on {isa}"] if isa else [])]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in found["rows"]:
        figures = row["figures"]
        low, high = row["drop_ci"]
        ratio, least, most = row["time_of_ours"]
        cells = [
            row["name"],
            f"{row['top1']:.2f}",
            f"{row['drop']:.2f} ({low:.2f} to {high:.2f})",
            f"{row['bytes'] / 1000:.0f}",
            f"{row['p50_ms']:.3f}",
            "" if row["name"] == OWN else f"{ratio:.2f} ({least:.2f}-{most:.2f})",
            f"{figures['seconds']:.1f}" if figures else "",
            f"{figures['peak_mb']:.0f}" if figures else "",
            f"{figures['imports_mb']:.0f}" if figures else "",
        ]
        if isa:
            cells.append(f"{row['emulated_top1']:.2f}" if "emulated_top1" in row else "")
        lines.append(f"| {' | '.join(cells)} |")
    value, low, high = found["same_file_twice"]
    lines += ["", f"Ours opened twice: {value:.3f} ({low:.3f}-{high:.3f}) of its own time."]
    lines += [f"Skipped: {name}: {why}." for name, why in found["skipped"].items()]
    return lines


def main() -> None:
    """Print a Markdown table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, action="append", required=True, help="float .onnx")
    parser.add_argument("--data", required=True, help="digits, or a folder with train/ and test/")
    parser.add_argument("--python", default="", help="interpreter that has NNCF and OpenVINO")
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--contenders", default="", help="how their names start, with ; between")
    parser.add_argument("--seconds", type=float, default=60.0, help="timing, all files together")
    parser.add_argument("--isa", default="", help="an emulated CPU, such as avx2")
    parser.add_argument("--isa-images", type=int, default=1000)
    parser.add_argument("--cache", type=Path, help="decoded images; default: a fresh folder")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    arguments = parser.parse_args()
    results = []
    for model in arguments.model:
        results.append(measure(model, arguments))
        print("\n".join([str(model), "", *table(results[-1], arguments.isa), ""]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
