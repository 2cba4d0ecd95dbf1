#!/usr/bin/env python3
"""Check a model bundle on the device it is meant for, time it, and classify images with it.

    python run.py                     check every file and the golden outputs, measure latency
    python run.py cat.png dog.ppm     the same, and classify these images
    python run.py --data FOLDER       the same, and count right answers on FOLDER/CLASS/image
    python run.py --out device.json   the same, and write all of it as JSON

One file; needs Python 3.9 or newer, numpy and onnxruntime. It reads PNG, PPM, PGM, BMP and .npy
itself; other formats (JPEG) need Pillow. Exit code: 0 all well, 1 the bundle is damaged or gives
other answers here than where it was made, 2 the request was wrong.

Times are taken as the build takes them: pinned, garbage collector off, in blocks of runs that each
begin with one that does not count.

Images are brought to the network's pixels exactly as in training: turned upright, transparency on
white, 16-bit grey rounded to 8, then Pillow's bilinear resampling (a triangle filter whose support
grows when shrinking, 22-bit coefficients, rounded to 8 bits after each direction).
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import io
import json
import os
import platform
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import numpy as np
    import onnxruntime as ort
except ImportError as missing:
    sys.stderr.write(f"run.py: {missing}. Install it with: pip install numpy onnxruntime\n")
    sys.exit(2)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Network = Callable[[Pixels], NDArray[np.float32]]  # uint8 [N, H, W, 3] -> logits [N, classes]

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"  # of the manifest, by whoever packed the bundle; not checked here
FORMAT_VERSION = 1  # of the manifest
ANSWER_VERSION = 1  # of what --json prints and --out writes
DAMAGED, REFUSED = 1, 2  # exit codes
TOP = 3
MAX_THREADS = 1024
MAX_PIXELS = 89_478_485  # of a source image, as in training: a quarter of a gigabyte as RGB
WARM_UP_RUNS, WARM_UP_SECONDS = 50, 0.5
RUNS, SHORT_SECONDS, LONG_SECONDS = 200, 1.0, 5.0
BLOCK_RUNS, FEW_BLOCKS = 20, 10  # blocks are shorter where there would be fewer than 2 * FEW_BLOCKS
SYS, PROC = Path("/sys"), Path("/proc")
ISA_OF_FLAG = {  # flag in /proc/cpuinfo -> instruction set as named in the manifest
    "avx2": "avx2",
    "avx_vnni": "avx-vnni",
    "avx512bw": "avx512",
    "avx512_vnni": "avx512-vnni",
    "avx_vnni_int8": "avx-vnni-int8",
    "amx_int8": "amx-int8",
    "asimd": "arm64-neon",
    "asimddp": "arm64-dotprod",
    "i8mm": "arm64-i8mm",
}


class Problem(Exception):  # noqa: N818 - not every problem is an error
    """Ends the run with a one-line message and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Make the message one line, whatever a library put into it."""
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parser().parse_args(arguments)
    steps = "bundle model target model_sha256 files machine golden images accuracy latency"
    report: dict[str, Any] = {
        "answer_version": ANSWER_VERSION,
        "passed": False,
        "error": None,
        **dict.fromkeys(steps.split()),
    }
    exit_code = 0
    try:
        check(options, report, say=_nothing if options.json else _line)
    except Problem as problem:
        report["error"], exit_code = str(problem), problem.exit_code
    except OSError as error:
        report["error"], exit_code = f"{error.filename}: {error.strerror}.", REFUSED
    except KeyboardInterrupt:
        return 130
    report["passed"] = exit_code == 0
    if report["error"]:
        sys.stderr.write(f"run.py: {report['error']}\n")
    text = json.dumps(report, indent=2, allow_nan=False)
    if options.json:
        _line(text)
    if options.out is not None:
        try:
            write(options.out, text + "\n")
        except OSError as error:
            sys.stderr.write(f"run.py: cannot write {options.out}: {error.strerror}.\n")
            return exit_code or REFUSED
    return exit_code


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        if partial.exists():
            partial.unlink()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description="Check a model bundle, measure its latency, classify images."
    )
    parser.add_argument("images", nargs="*", type=Path, help="image files to classify")
    parser.add_argument("--bundle", type=Path, help="bundle folder (default: where run.py is)")
    parser.add_argument(
        "--threads", type=_threads, default=1, help="threads of ONNX Runtime (default: 1)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="measure top-1 on FOLDER/CLASS/image, or on an .npz file with `images` uint8 "
        "[N, H, W, 3] and `labels` (positions in labels.txt)",
    )
    parser.add_argument("--no-latency", action="store_true", help="do not measure latency")
    parser.add_argument(
        "--out", type=_outside, metavar="FILE.json", help="write the JSON document, too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    return parser


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_THREADS}")
    return int(text)


def _outside(text: str) -> Path:
    if (Path(text).parent / MANIFEST).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} would change the bundle; choose another folder")
    return Path(text)


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")


def _nothing(text: str) -> None:
    """Stay silent: the JSON document says it all."""


def check(options: argparse.Namespace, report: dict[str, Any], say: Callable[[str], None]) -> None:
    """Fill ``report`` step by step; raises Problem at the first thing that is not as it should."""
    folder = find_bundle(options.bundle)
    manifest = read_manifest(folder)
    report.update(bundle=str(folder), model=manifest["model"], target=manifest["target"])
    report["model_sha256"] = manifest["files"][model_file(manifest)]["sha256"]
    report["files"] = check_files(folder, manifest, options.images)
    say(f"{manifest['model']} for {manifest['target']}: {report['files']} files as shipped")

    images = [(path, to_contract(decode(path), manifest["input"])) for path in options.images]

    report["machine"] = machine()
    pinned = pin(options.threads)
    begin = time.perf_counter()
    network = open_model(folder / model_file(manifest), manifest, options.threads)
    load_ms = 1e3 * (time.perf_counter() - begin)
    golden = report["golden"] = compare_golden(network, folder, manifest)
    text = (
        "{agree} of {images} classes agree, largest difference {difference}, tolerance {tolerance}"
    )
    if not golden["passed"]:
        hint = cpu_hint(report["machine"]["isas"], manifest["isas"])
        raise Problem(f"Golden outputs differ: {text.format(**golden)}.{hint}", DAMAGED)
    say(f"golden outputs: {text.format(**golden)}")

    report["images"] = []
    for path, pixels in images:
        best = classify(network, pixels, manifest)
        report["images"].append({"path": str(path), "top": best})
        shown = ", ".join(f"{entry['class']} {100 * entry['probability']:.1f} %" for entry in best)
        say(f"{path}: {shown}")

    if options.data is not None:
        report["accuracy"] = top_1(network, options.data, manifest)
        say("top-1: {top1:.2f} %, {correct} of {total} images".format(**report["accuracy"]))

    if not options.no_latency:
        before = conditions(pinned)
        timing = measure(network, folder)
        report["latency"] = {
            **timing,
            "load_ms": load_ms,
            "threads": options.threads,
            "pinned_cpus": pinned,
            "peak_memory_mb": peak_memory_mb(),
            "governor": governor(pinned),
            "before": before,
            "after": conditions(pinned),
        }
        text = (
            "latency: median {median_ms:.3f} ms, p90 {p90_ms:.3f} ms, {runs} runs, {threads} thread"
        )
        say(text.format(**report["latency"]) + ("s" if options.threads > 1 else ""))
    text = "machine: {processor} ({machine}: {sets}), onnxruntime {onnxruntime}"
    sets = " ".join(report["machine"]["isas"]) or "instruction sets unknown"
    say(text.format(sets=sets, **report["machine"]))


# The bundle ---------------------------------------------------------------------------------------


def find_bundle(asked: Path | None) -> Path:
    """Return the folder asked for; else run.py's own, the current one, or the only one beside."""
    if asked is not None:
        if not asked.is_dir():
            raise Problem(f"{asked} is not a folder.", REFUSED)
        return asked
    here = Path(__file__).resolve().parent
    for folder in (here, Path.cwd()):
        if (folder / MANIFEST).is_file() or (folder / "model.onnx").is_file():
            return folder
    beside = [path.parent for path in here.glob(f"[!.]*/{MANIFEST}")]
    if len(beside) == 1:
        return beside[0]
    found = "several bundles" if beside else "no bundle"
    raise Problem(f"There is {found} beside {here}; name one with --bundle FOLDER.", REFUSED)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest after checking what the rest of the program relies on."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        version = manifest["format_version"]
        sound = version != FORMAT_VERSION or _is_sound(manifest)
    except FileNotFoundError:
        raise Problem(f"The bundle is damaged: {MANIFEST} is missing.", DAMAGED) from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        sound = False
    if not sound:
        raise Problem(f"The bundle is damaged: {MANIFEST} cannot be read.", DAMAGED)
    if version != FORMAT_VERSION:
        raise Problem(
            f"{path} has format {version}, this run.py reads {FORMAT_VERSION}; "
            "use the run.py inside the bundle.",
            REFUSED,
        )
    return manifest


def model_file(manifest: dict[str, Any]) -> str:
    """Return the name of the file that onnxruntime loads; older bundles have but one."""
    return str(manifest.get("file", "model.onnx"))


def _is_sound(manifest: dict[str, Any]) -> bool:
    contract, files = manifest["input"], manifest["files"]
    texts = [manifest["model"], manifest["target"], manifest["tools"]["onnxruntime"]]
    texts += [contract["name"], manifest["output"]["name"]]
    texts += manifest["classes"] + manifest["isas"] + [file["sha256"] for file in files.values()]
    sides = [contract["height"], contract["width"]]
    sizes = [file["bytes"] for file in files.values()]
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) for number in sides + sizes)
        and min(sides) > 0
        and contract["resize"] in ("crop", "stretch")
        and float(manifest["golden"]["tolerance"]) >= 0
        and all(Path(name).name == name for name in files)  # nothing outside the folder
        and {model_file(manifest), "golden.npz"} <= set(files)
    )


def check_files(folder: Path, manifest: dict[str, Any], arguments: list[Path]) -> int:
    """Return how many files are exactly as shipped; raises Problem that names those that are not.

    Images named on the command line may lie in the folder; anything else there is reported.
    """
    listed = manifest["files"]
    allowed = {path.resolve() for path in arguments}
    faults = []
    for name, entry in sorted(listed.items()):
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != entry["bytes"]:
            faults.append(f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}")
        elif _sha256(path) != entry["sha256"]:
            faults.append(f"{name} has changed")
    faults.extend(
        f"{path.name} is not part of it"
        for path in sorted(folder.iterdir())
        if path.name not in {MANIFEST, SIGNATURE, *listed} and path.resolve() not in allowed
    )
    if faults:
        raise Problem(f"The bundle is damaged: {'; '.join(faults)}.", DAMAGED)
    return len(listed) + 1


def _sha256(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            state.update(block)
    return state.hexdigest()


# The model ----------------------------------------------------------------------------------------


def open_model(path: Path, manifest: dict[str, Any], threads: int) -> Network:
    """Return the loaded model; raises Problem when this onnxruntime cannot load it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # As the build times it: no thread spins on after its run, and every run wakes them anew.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no other base
        maker = manifest["tools"]["onnxruntime"]
        raise Problem(
            f"onnxruntime {ort.__version__} cannot load {path.name}, made with {maker}: {error}",
            REFUSED,
        ) from error
    names = manifest["input"]["name"], [manifest["output"]["name"]]

    def network(images: Pixels) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(names[1], {names[0]: images})[0]
        return logits

    return network


def golden_arrays(folder: Path) -> tuple[Pixels, NDArray[np.float32]]:
    """Return the golden images ``uint8 [N, H, W, 3]`` and their logits ``float32 [N, classes]``."""
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        return golden["images"], golden["logits"]


def compare_golden(network: Network, folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return how close the outputs are to those of the machine that made the bundle.

    Passed means that the same class wins everywhere and no logit differs by more than the
    manifest's tolerance. One image at a time, as there.
    """
    tolerance = float(manifest["golden"]["tolerance"])
    try:
        images, expected = golden_arrays(folder)
        logits = np.concatenate([network(images[i : i + 1]) for i in range(len(images))])
        difference = float(np.abs(logits - expected).max())
    except Exception as error:  # onnxruntime's errors share no other base
        raise Problem(f"The model does not run on its golden images: {error}", DAMAGED) from error
    agree = int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return {
        "passed": agree == len(images) and difference <= tolerance,  # never with a NaN
        "images": len(images),
        "agree": agree,
        "difference": float(f"{difference:.3g}") if np.isfinite(difference) else None,
        "tolerance": float(f"{tolerance:.3g}"),
    }


def cpu_hint(here: list[str], meant_for: list[str]) -> str:
    """Return a sentence for a model on a CPU it was not made for, else nothing."""
    if not here or set(here) & set(meant_for):
        return ""
    return f" This CPU has {', '.join(here)}; the model is for {', '.join(meant_for)}."


def classify(network: Network, pixels: Pixels, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the likeliest classes of one image with their probabilities, best first."""
    logits = network(pixels[None])[0].astype(np.float64)
    odds = np.exp(logits - logits.max())
    probabilities = odds / odds.sum()
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    return [{"class": manifest["classes"][i], "probability": float(probabilities[i])} for i in best]


def top_1(network: Network, data: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return how many images of ``data`` are classified as they are labelled, one at a time."""
    correct = total = 0
    for pixels, label in labelled_images(data, manifest):
        correct += int(network(pixels[None])[0].argmax()) == label
        total += 1
    if not total:
        raise Problem(f"{data} holds no images; FOLDER/CLASS/image is looked for.", REFUSED)
    return {"data": str(data), "top1": 100 * correct / total, "correct": correct, "total": total}


def labelled_images(data: Path, manifest: dict[str, Any]) -> Iterator[tuple[Pixels, int]]:
    """Yield images of the network's size, each with the position of its class."""
    classes = manifest["classes"]
    if not data.is_dir():
        yield from _labelled_arrays(data, manifest)
        return
    folders = sorted(path for path in data.iterdir() if path.is_dir() and path.name[0] != ".")
    for folder in folders:
        if folder.name not in classes:
            known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise Problem(f"{folder}: the model does not know this class, but {known}.", REFUSED)
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name[0] != ".":
                yield to_contract(decode(path), manifest["input"]), classes.index(folder.name)


def _labelled_arrays(path: Path, manifest: dict[str, Any]) -> Iterator[tuple[Pixels, int]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
        count, classes = len(images), len(manifest["classes"])
        if images.dtype != np.uint8 or images.shape[3:] != (3,) or 0 in images.shape:
            raise ValueError(f"images are {images.dtype} {list(images.shape)}")
        if labels.dtype.kind not in "iu" or labels.shape != (count,):
            raise ValueError(f"labels are {labels.dtype} {list(labels.shape)}")
        if not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"labels are not in 0 to {classes - 1}")
    except Exception as error:  # damaged files make numpy raise many kinds
        raise Problem(
            f"{path} is neither a folder of classes nor an .npz file with `images` uint8 "
            f"[N, H, W, 3] and `labels`: {error}",
            REFUSED,
        ) from error
    for image, label in zip(images, labels):  # noqa: B905 - Python 3.9; their lengths are equal
        yield to_contract(image, manifest["input"]), int(label)


def measure(network: Network, folder: Path) -> dict[str, Any]:
    """Return the latency of one image: median and 90th percentile, in milliseconds.

    ``median_ci_ms`` is the 95 % confidence interval of the blocks' median (order statistics), None
    where there are few blocks.
    """
    image = golden_arrays(folder)[0][:1]
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        warm = _block(network, image, 1)
        begin = time.perf_counter()
        while len(warm) < WARM_UP_RUNS and time.perf_counter() - begin < WARM_UP_SECONDS:
            warm += _block(network, image, 1)
        affordable = 1e3 * SHORT_SECONDS / (2 * FEW_BLOCKS * float(np.median(warm)))
        size = max(1, min(BLOCK_RUNS, int(affordable)))
        blocks: list[list[float]] = []
        begin = time.perf_counter()
        elapsed = 0.0
        while elapsed < SHORT_SECONDS or (len(blocks) * size < RUNS and elapsed < LONG_SECONDS):
            blocks.append(_block(network, image, size))
            elapsed = time.perf_counter() - begin
    finally:
        if collecting:
            gc.enable()
    times = np.array(blocks)
    median, p90 = np.percentile(times, [50, 90])
    return {
        "runs": times.size,
        "blocks": len(blocks),
        "median_ms": float(median),
        "median_ci_ms": median_interval(np.median(times, axis=1)),
        "p90_ms": float(p90),
    }


def _block(network: Network, image: Pixels, runs: int) -> list[float]:
    network(image)
    times = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        network(image)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def median_interval(values: NDArray[np.float64]) -> list[float] | None:
    """Return a 95 % confidence interval of the median: two of the values, by the binomial law."""
    count = len(values)
    if count < FEW_BLOCKS:
        return None
    reach = 1.96 * count**0.5
    low, high = int((count - reach) / 2) - 1, int(np.ceil((count + reach) / 2))
    ordered = np.sort(values)
    return [float(ordered[max(low, 0)]), float(ordered[min(high, count - 1)])]


# The machine --------------------------------------------------------------------------------------


def pin(threads: int) -> list[int] | None:
    """Keep this process on as many CPUs as it has threads; return them, or None if impossible.

    Big cores come before little ones, then one of each pair that shares a physical core, then high
    numbers, because interrupts and other programs tend to sit on the lowest.
    """
    try:
        usable = sorted(os.sched_getaffinity(0), key=_preference)
        chosen = sorted(usable[:threads])
        os.sched_setaffinity(0, chosen)
    except (AttributeError, OSError):  # not Linux, or not allowed
        return None
    return chosen


def _preference(cpu: int) -> tuple[float, bool, int]:
    folder = SYS / f"devices/system/cpu/cpu{cpu}"
    top_khz = _number(folder / "cpufreq/cpuinfo_max_freq") or 0
    siblings = _read(folder / "topology/thread_siblings_list") or str(cpu)
    first = siblings.replace("-", ",").split(",")[0].strip()
    return -top_khz, first != str(cpu), -cpu


def machine() -> dict[str, Any]:
    """Return what a latency depends on: processor, instruction sets, versions."""
    entries: dict[str, str] = {}
    for line in _read(PROC / "cpuinfo").splitlines():
        key, _, value = line.partition(":")
        entries.setdefault(key.strip(), value.strip())
    # An emulator shows its host's cpuinfo, whose flags are under the name of another architecture.
    is_arm = platform.machine().startswith(("aarch", "arm"))
    flags = entries.get("Features" if is_arm else "flags", "").split()
    board = _read(PROC / "device-tree/model")  # ARM boards say what they are here, not in cpuinfo
    return {
        "name": platform.node(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": entries.get("model name") or board or platform.processor() or "unknown",
        "isas": [isa for flag, isa in ISA_OF_FLAG.items() if flag in flags],
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": ort.__version__,
    }


def conditions(cpus: list[int] | None) -> dict[str, float | None]:
    """Return what slows a device down while it is timed; None where the system does not tell.

    ``temperature_c`` is the hottest sensor's, ``frequency_mhz`` the highest of these CPUs' clocks.
    """
    sensors = ("thermal/thermal_zone*/temp", "hwmon/*/temp*_input")
    found = [_number(path) for sensor in sensors for path in (SYS / "class").glob(sensor)]
    degrees = [1e-3 * value for value in found if value is not None]
    clocks = [_number(_cpufreq(cpu) / "scaling_cur_freq") for cpu in cpus or [0]]
    khz = [value for value in clocks if value]
    return {
        "temperature_c": round(max(degrees), 1) if degrees else None,
        "frequency_mhz": round(1e-3 * max(khz)) if khz else None,
    }


def governor(cpus: list[int] | None) -> str | None:
    """Return by which rule the clock of these CPUs is set, None if the system does not tell."""
    return _read(_cpufreq((cpus or [0])[0]) / "scaling_governor") or None


def _cpufreq(cpu: int) -> Path:
    return SYS / f"devices/system/cpu/cpu{cpu}/cpufreq"


def peak_memory_mb() -> float | None:
    """Return the most memory that this process has held, None if the system does not tell."""
    for line in _read(PROC / "self/status").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None


def _read(path: Path) -> str:
    """Return the text of a file of the system, "" if there is none to be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:  # absent, or a sensor that is asleep
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_read(path))
    except ValueError:
        return None


# Images: to the network's size --------------------------------------------------------------------


def to_contract(pixels: Pixels, contract: dict[str, Any]) -> Pixels:
    """Return ``uint8 [height, width, 3]`` of the contract from an image of any size.

    ``crop`` takes the largest centred box with the network's aspect ratio, ``stretch`` the whole
    image. The box need not begin or end on a whole pixel.
    """
    height, width = contract["height"], contract["width"]
    rows, columns = pixels.shape[:2]
    tall, wide = float(rows), float(columns)
    if contract["resize"] == "crop":
        if columns / rows >= width / height:
            wide = width / height * rows
        else:
            tall = columns / (width / height)
    top, left = (rows - tall) * 0.5, (columns - wide) * 0.5
    if (rows, columns) == (height, width):
        return pixels
    # The first direction is rounded to 8 bits before the second: this is the order of Pillow 13,
    # which shrinks the height first where that saves much; other versions differ by one level.
    height_first = height < rows and rows - height > 2 * (columns - width)
    if height_first:
        pixels = _resize(pixels, top, top + tall, height)
    pixels = _resize(pixels.transpose(1, 0, 2), left, left + wide, width).transpose(1, 0, 2)
    if not height_first:
        pixels = _resize(pixels, top, top + tall, height)
    return np.ascontiguousarray(pixels)


def _resize(pixels: Pixels, begin: float, end: float, size: int) -> Pixels:
    """Return ``[size, W, C]`` of ``[H, W, C]``: weighted means of the rows from begin to end."""
    rows = len(pixels)
    if (begin, end, size) == (0, rows, rows):
        return pixels
    begin, end = float(np.float32(begin)), float(np.float32(end))  # as Pillow holds them
    scale = float(np.float32(end - begin)) / size
    support = max(scale, 1.0)
    result = np.empty((size, *pixels.shape[1:]), np.uint8)
    for index in range(size):
        centre = begin + (index + 0.5) * scale
        first = max(0, int(centre - support + 0.5))
        last = min(rows, int(centre + support + 0.5))
        weights = 1.0 - np.abs(np.arange(first, last) - centre + 0.5) / support
        weights = np.maximum(weights, 0.0)
        weights = np.floor(weights / weights.sum() * (1 << 22) + 0.5)
        total = np.tensordot(weights, pixels[first:last], axes=1)  # whole numbers below 2**53
        result[index] = np.minimum(np.floor(total / (1 << 22) + 0.5), 255)
    return result


# Images: from a file ------------------------------------------------------------------------------


def decode(path: Path) -> Pixels:
    """Return a file's image as ``uint8 [H, W, 3]``; raises Problem that says what is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}.", REFUSED) from error
    for kind, magic, reader in _READERS:
        if data.startswith(magic):
            try:
                pixels = reader(data)
            except Exception as error:  # damaged files make readers raise many kinds
                raise Problem(f"{path} is not a readable {kind} file: {error}", REFUSED) from error
            return _with_pillow(path, data) if pixels is None else np.ascontiguousarray(pixels)
    return _with_pillow(path, data)


def _with_pillow(path: Path, data: bytes) -> Pixels:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise Problem(
            f"{path}: without Pillow only PNG (not interlaced), PPM, PGM, BMP (24 or 32 bits) and "
            "uint8 .npy are read; pip install pillow, or convert the file.",
            REFUSED,
        ) from None
    try:
        with Image.open(io.BytesIO(data)) as file:
            _check_size(*file.size)
            image: Any = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):
                return _flat(_grey_16(np.asarray(image))[:, :, None], None)
            if image.mode in ("I", "F"):
                raise ValueError("32-bit pixels have no known range")
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # damaged files make Pillow raise many kinds
        raise Problem(f"{path} is not a readable image: {error}", REFUSED) from error


def _flat(samples: NDArray[Any], alpha: NDArray[Any] | None) -> Pixels:
    """Return RGB from 8-bit grey or RGB samples ``[H, W, 1 or 3]``, transparency on white."""
    if alpha is not None:
        weight = alpha.astype(np.int64)[:, :, None]
        blend = samples.astype(np.int64) * weight + 255 * (255 - weight)
        samples = (2 * blend + 255) // 510
    pixels = samples.astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _grey_16(samples: NDArray[Any]) -> NDArray[Any]:
    return (samples.astype(np.int64) * 255 + 32767) // 65535


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels")


_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def _png(data: bytes) -> Pixels | None:
    """Read a PNG (ISO/IEC 15948); None if it is interlaced."""
    chunks = _png_chunks(data)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    _check_size(width, height)
    if depth not in _PNG_DEPTHS.get(colour, ()):
        raise ValueError(f"colour type {colour} with {depth} bits")
    if interlaced:
        return None
    channels = _PNG_CHANNELS[colour]
    row_bytes = (width * channels * depth + 7) // 8
    size = height * (row_bytes + 1)
    content = zlib.decompressobj().decompress(chunks[b"IDAT"], size)  # bounded: no bombs
    if len(content) != size:
        raise ValueError(f"{len(content)} of {size} bytes of pixels")
    lines = np.frombuffer(content, np.uint8).reshape(height, row_bytes + 1)
    step = max(1, channels * depth // 8)
    plain = _png_unfilter(lines[:, 0], lines[:, 1:].reshape(height, row_bytes // step, step))
    samples = _png_samples(plain.reshape(height, row_bytes), width, depth, channels)
    return _upright(_png_colours(samples, depth, colour, chunks), chunks.get(b"eXIf"))


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks by name up to IEND, the pieces of a repeated one joined."""
    chunks: dict[bytes, list[bytes]] = {}
    position = 8
    while b"IEND" not in chunks:
        length, name = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(name + body) != checksum:
            raise ValueError(f"chunk {name.decode('latin-1')} is damaged")
        chunks.setdefault(name, []).append(body)
        position += length + 12
    return {name: b"".join(bodies) for name, bodies in chunks.items()}


def _png_unfilter(kinds: Pixels, lines: Pixels) -> Pixels:
    """Undo the row filters of ``[H, W, bytes per pixel]``.

    A pixel needs its left, upper and upper-left neighbours, so all pixels of an anti-diagonal can
    be done at once: H + W vector steps in place of H * W scalar ones.
    """
    if kinds.max() > 4:
        raise ValueError(f"row filter {kinds.max()}")
    height, width, step = lines.shape
    framed = np.zeros((height + 1, width + 1, step), np.uint8)
    framed[1:, 1:] = lines
    flat = framed.reshape(-1, step)
    for diagonal in range(height + width - 1):
        top = max(0, diagonal - width + 1)
        count = min(height - 1, diagonal) - top + 1
        start = (top + 1) * (width + 1) + diagonal - top + 1

        def cells(offset: int, first: int = start, count: int = count) -> Pixels:
            begin = first - offset
            return flat[begin : begin + (count - 1) * width + 1 : width]

        left = cells(1).astype(np.int16)
        up = cells(width + 1).astype(np.int16)
        corner = cells(width + 2).astype(np.int16)
        to_left, to_up = np.abs(up - corner), np.abs(left - corner)
        to_corner = np.abs(left + up - 2 * corner)
        nearest = np.where(to_up <= to_corner, up, corner)
        nearest = np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)
        kind = kinds[top : top + count, None]
        guess: NDArray[Any] = np.choose(kind, [left * 0, left, up, (left + up) >> 1, nearest])
        here = cells(0)
        here += guess.astype(np.uint8)
    return framed[1:, 1:]


def _png_samples(rows: Pixels, width: int, depth: int, channels: int) -> NDArray[Any]:
    """Return ``[H, W, channels]`` integers of ``depth`` bits from packed rows of bytes."""
    height = rows.shape[0]
    if depth == 16:
        return np.ascontiguousarray(rows).view(">u2").reshape(height, width, channels)
    if depth == 8:
        return rows.reshape(height, width, channels)
    bits = np.unpackbits(np.ascontiguousarray(rows), axis=1)[:, : width * depth]
    powers = 1 << np.arange(depth - 1, -1, -1)
    return (bits.reshape(height, width, depth) @ powers)[:, :, None]


def _png_colours(
    samples: NDArray[Any], depth: int, colour: int, chunks: dict[bytes, bytes]
) -> Pixels:
    """Return RGB: palette looked up, transparency (channel, colour key or table) on white."""
    clear = chunks.get(b"tRNS")
    if colour == 3:
        palette = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
        opacity = np.full(len(palette), 255, np.uint8)
        if clear is not None:
            opacity[: len(clear)] = np.frombuffer(clear, np.uint8)[: len(palette)]
        index = samples[:, :, 0]
        return _flat(palette[index], opacity[index])
    alpha = None
    colours = samples
    if colour in (4, 6):
        colours = samples[:, :, :-1]
        alpha = _eight_bits(samples[:, :, -1], depth, colour)
    elif clear is not None:
        key = np.frombuffer(clear, ">u2")[: samples.shape[2]]
        alpha = np.where((samples == key).all(axis=2), 0, 255)
    return _flat(_eight_bits(colours, depth, colour), alpha)


def _eight_bits(samples: NDArray[Any], depth: int, colour: int) -> NDArray[Any]:
    """Return samples of any depth in 8 bits; of 16 bits, only plain grey is rounded by Pillow."""
    if depth == 16:
        return _grey_16(samples) if colour == 0 else samples >> 8
    return samples * (255 // ((1 << depth) - 1))


def _upright(pixels: Pixels, exif: bytes | None) -> Pixels:
    """Return the image turned by the orientation in an EXIF block."""
    if exif is None:
        return pixels
    order = "<" if exif[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "4xI", exif)
    (count,) = struct.unpack_from(order + "H", exif, start)
    tags = dict(
        struct.unpack_from(order + "H6xH", exif, start + 2 + 12 * entry) for entry in range(count)
    )
    orientation = tags.get(0x0112, 1)
    if orientation in (5, 6, 7, 8):  # lying on its side
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _pnm(data: bytes) -> Pixels | None:
    """Read a binary PGM (P5) or PPM (P6) of 8 or 16 bits."""
    numbers: list[int] = []
    position = 2
    while len(numbers) < 3:
        if data[position : position + 1].isspace():
            position += 1
        elif data[position : position + 1] == b"#":
            position = data.index(b"\n", position)
        else:
            end = position
            while data[end : end + 1].isdigit():
                end += 1
            numbers.append(int(data[position:end]))
            position = end
    width, height, largest = numbers
    _check_size(width, height)
    if not 0 < largest < 1 << 16:
        raise ValueError(f"maximum {largest}")
    channels = 3 if data[:2] == b"P6" else 1
    kind = np.dtype(">u2" if largest > 255 else "u1")
    count = width * height * channels
    samples: NDArray[Any] = np.frombuffer(data, kind, count, position + 1)
    samples = samples.reshape(height, width, channels)
    if largest == 65535:
        samples = _grey_16(samples)
    elif largest != 255:
        samples = np.minimum(np.rint(samples / largest * 255), 255)
    return _flat(samples, None)


_BYTE_OF_MASK = {0xFF: 0, 0xFF00: 1, 0xFF0000: 2, 0xFF000000: 3}


def _bmp(data: bytes) -> Pixels | None:
    """Read an uncompressed BMP of 24 or 32 bits; None if it is another kind."""
    offset, header, width, height, _, bits, packing = struct.unpack_from("<IIiiHHI", data, 10)
    if header < 40 or bits not in (24, 32) or packing not in (0, 3):
        return None
    rows, step = abs(height), bits // 8
    _check_size(width, rows)
    masks = (0xFF0000, 0xFF00, 0xFF, 0)
    if packing == 3:
        masks = (*struct.unpack_from("<4I" if header >= 56 else "<3I", data, 54), 0)[:4]
    if not all(mask in _BYTE_OF_MASK for mask in masks[:3]):
        return None
    stride = (width * step + 3) // 4 * 4
    lines = np.frombuffer(data, np.uint8, stride * rows, offset).reshape(rows, stride)
    pixels = lines[:: -1 if height > 0 else 1, : width * step].reshape(rows, width, step)
    alpha = _BYTE_OF_MASK.get(masks[3])
    colours = pixels[:, :, [_BYTE_OF_MASK[mask] for mask in masks[:3]]]
    return _flat(colours, None if alpha is None else pixels[:, :, alpha])


def _npy(data: bytes) -> Pixels | None:
    """Read a numpy array of raw pixels, ``uint8 [H, W]`` or ``[H, W, 1, 3 or 4]``."""
    pixels = np.load(io.BytesIO(data), allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ValueError(f"{pixels.dtype} {list(pixels.shape)} instead of uint8 [H, W, 3]")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"{pixels.shape[2]} channels instead of 1, 3 or 4")
    return _flat(pixels[:, :, :3], pixels[:, :, 3] if pixels.shape[2] == 4 else None)


_READERS: tuple[tuple[str, bytes, Callable[[bytes], Any]], ...] = (
    ("PNG", b"\x89PNG\r\n\x1a\n", _png),
    ("PGM", b"P5", _pnm),
    ("PPM", b"P6", _pnm),
    ("BMP", b"BM", _bmp),
    ("NumPy", b"\x93NUMPY", _npy),
)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
