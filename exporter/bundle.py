"""What is shipped: the model, and all that is needed to check and to use it somewhere else.

    <out>/<model>-<target>/
        model.onnx      the very file that was verified; model.ort where the target wants that,
                        with the model.onnx it was made of and the operators it needs
        manifest.json   sha256 and size of every other file, input contract, classes, tool versions
        golden.npz      validation images and the logits this file gives here
        run.py          checks all that on the device, times the model, classifies images
        index.html      the same in a browser, for targets that run in one
        sbom.cdx.json   software bill of materials: what made the model and what runs it
        LICENSE         of run.py and the page
        labels.txt  recipe.toml  report.json  report.md  report.html  MODEL_CARD.md  README.txt

The same inputs give the same bytes. The folder appears under its name as a whole or not at all:
it is written beside it, synced to disk and renamed; an older bundle is moved aside just before and
comes back if anything fails, be it in the next run. A build whose gate failed leaves its reports in
``<model>-<target>.failed/``.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifacts import LIBRARIES
from exporter.contract import INPUT_NAME, OUTPUT_NAME, InputContract
from exporter.data.splits import Split
from exporter.packing.contents import FORMAT_VERSION, MANIFEST
from exporter.packing.place import cannot_write, place
from exporter.packing.sbom import SBOM, sbom
from exporter.targets import WEB_PAGE, Target

if TYPE_CHECKING:
    from exporter.ship import Shipped

REPORT = "report.json"
_PAGE_HELP = (
    "In a browser: npm install onnxruntime-web in the folder above this one, serve that folder",
    "(python -m http.server) and open this one's index.html there.",
)


def bundle_path(out: Path, name: str, target: Target) -> Path:
    """Return the folder a bundle gets, whether it exists or not."""
    return out / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.-') or 'model'}-{target.name}"


def bundle(
    out: Path,
    *,
    name: str,
    target: Target,
    shipped: Shipped,
    contract: InputContract,
    validation: Split,
    recipe: str,
    reports: Mapping[str, bytes],
) -> Path:
    """Write a bundle, in place of an older one, and return its folder.

    ``reports`` are files that come along as they are, by name.

    Raises:
        CacheError: a file of the model has changed since it was made.
        GraphError: the model does not run.
        OutputError: the folder cannot be written, or something that is no bundle has its name.
    """
    from exporter.golden import choose_golden, golden_file

    golden = choose_golden(shipped.file, validation)
    deployed = package_files("deploy")
    page = WEB_PAGE if target.web_page else ()
    models = {path: file.checked().read_bytes() for path, file in shipped.files.items()}
    programs = {
        "run.py": deployed.joinpath("run.py").read_bytes(),
        **{path: deployed.joinpath("web", path).read_bytes() for path in page},
    }
    tools = _tools()
    files = {
        **models,
        **programs,
        "golden.npz": golden_file(golden),
        "LICENSE": deployed.joinpath("LICENSE").read_bytes(),
        SBOM: sbom(
            name=name,
            model_file=target.file_name,
            models=models,
            programs=programs,
            made_with={tool: tools[tool] for tool in LIBRARIES if tool in tools},
            browser=target.web_page,
        ),
        "labels.txt": _lines(*(" ".join(label.splitlines()) for label in contract.classes)),
        "recipe.toml": recipe.encode(),
        **reports,
        "README.txt": _lines(
            f"{name} for {target.name}: takes {contract.height}x{contract.width} RGB images, "
            f"tells {len(contract.classes)} classes apart.",
            "Check and time it here: python run.py   (Python 3.9+; pip install numpy onnxruntime)",
            "Classify images: python run.py --no-latency photo.png   (python run.py --help)",
            *(_PAGE_HELP if target.web_page else ()),
            f"The programs here are under Apache-2.0 (LICENSE). {SBOM} lists what made the model.",
        ),
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "model": name,
        "file": target.file_name,
        "target": target.name,
        "isas": target.isas,
        "input": {
            "name": INPUT_NAME,
            "type": "uint8",
            "layout": "NHWC",
            "height": contract.height,
            "width": contract.width,
            "channels": contract.channels,
            "zero_point": contract.zero_point,
            "scale": contract.scale,
            "resize": contract.resize,
        },
        "output": {"name": OUTPUT_NAME, "type": "float32"},
        "classes": contract.classes,
        "golden": {"images": len(golden.labels), "tolerance": golden.tolerance},
        "tools": tools,
        "files": {
            file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for file, data in files.items()
        },
    }
    files[MANIFEST] = _lines(json.dumps(manifest, indent=2, sort_keys=True))
    final = bundle_path(out, name, target)
    place(files, final, marker=MANIFEST)
    _discard_failure(final)
    return final


def write_failure(out: Path, *, name: str, target: Target, reports: Mapping[str, bytes]) -> Path:
    """Write the reports of a build that failed a gate; return their folder, never a bundle's.

    A bundle of an earlier build stays as it is. Raises OutputError like ``bundle``.
    """
    final = _failure_path(bundle_path(out, name, target))
    place(reports, final, marker=REPORT)
    return final


def _failure_path(final: Path) -> Path:
    return final.with_name(f"{final.name}.failed")


def _tools() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("edge-exporter", *LIBRARIES):
        with suppress(PackageNotFoundError):  # run from a checkout that is not installed
            found[name] = version(name)
    return found


def _lines(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _discard_failure(final: Path) -> None:
    failure = _failure_path(final)
    if (failure / REPORT).is_file() and not failure.is_symlink():
        try:
            shutil.rmtree(failure)
        except OSError as error:
            raise cannot_write(failure, error) from error
