"""A bundle checked and timed on another machine, as its ``run.py`` does it there."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np

from exporter.device.answer import device_report, parse_answer
from exporter.device.ssh import Host, run_python
from exporter.errors import DeviceError
from exporter.packing.archive import read_zip, zip_of
from exporter.packing.contents import MANIFEST, SIGNATURE, check_contents, read_folder
from exporter.packing.place import write_file
from exporter.progress import track
from exporter.report.device import DeviceReport

DATA = "data.npz"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a device answered."""

    report: DeviceReport
    answer: str
    """The runner's own JSON document."""


def check(
    host: Host,
    bundle: Path,
    *,
    data: Path | None = None,
    threads: int = 1,
    temp: str | None = None,
    out: Path | None = None,
) -> Checked:
    """Send a bundle to a device, run its checks there, return the answer; nothing stays there.

    Args:
        host: the device.
        bundle: a bundle, as a folder or packed.
        data: images to measure top-1 on, FOLDER/CLASS/image; they are read and resized here, so
            that the device needs no Pillow.
        threads: threads of ONNX Runtime.
        temp: the folder on the device that takes the bundle for a while; None for its usual one.
        out: the file that receives the answer, for ``exporter merge``.

    Raises:
        BundleError: the bundle is damaged.
        DeviceError: the device cannot be reached, lacks something, or nothing could be measured.
        OutputError: ``out`` cannot be written.
    """
    contents = read_folder(bundle) if bundle.is_dir() else read_zip(bundle)
    manifest = check_contents(bundle, contents)
    sent = {f"bundle/{name}": content for name, content in contents.items() if name != SIGNATURE}
    arguments = ["--threads", str(threads)]
    if data is not None:
        sent[DATA] = _images(data, contents[MANIFEST])
        arguments += ["--data", f"../{DATA}"]
    archive = zip_of(sent)
    with track(f"Checking on {host.name}", total=1) as advance:
        answer = _ask(host, archive, arguments, temp)
        advance(1, "")
    found = parse_answer(answer.encode(), f"The answer of {host.name}")
    if found.model_sha256 not in (None, manifest.model_sha256):
        raise DeviceError(f"{host.name} answered about another model.")
    report = device_report(found, f"The answer of {host.name}")
    if out is not None:
        write_file(out, answer.encode())
    return Checked(report=report, answer=answer)


def _ask(host: Host, archive: bytes, arguments: list[str], temp: str | None) -> str:
    """Return the runner's JSON document from the device."""
    marker = f"exporter-{secrets.token_hex(8)} "  # tells our line from a shell's greeting
    header = {"size": len(archive), "marker": marker, "temp": temp, "arguments": arguments}
    program = package_files("exporter.device").joinpath("remote.py").read_text()
    printed = run_python(host, program, json.dumps(header).encode() + b"\n" + archive)
    lines = [line for line in printed.decode(errors="replace").splitlines() if marker in line]
    if not lines:
        raise DeviceError(f"The connection to {host.name} was lost before it answered.")
    reply = json.loads(lines[-1].partition(marker)[2])
    if "fault" in reply:
        advice = " Free some space there, or choose a folder with --temp." * ("writing" in reply)
        raise DeviceError(
            f"{host.name}: {reply['fault']}; the bundle takes {len(archive):,} bytes.{advice}"
        )
    if not reply["answer"]:
        raise DeviceError(f"{host.name}: {_reason(reply)}")
    return str(reply["answer"])


def _reason(reply: Mapping[str, Any]) -> str:
    """Return why the runner printed no answer."""
    if reply["exit_code"] < 0:
        return f"run.py was stopped by signal {-reply['exit_code']}; is there enough memory?"
    lines = reply["said"].strip().splitlines()
    return lines[-1] if lines else f"run.py ended with exit code {reply['exit_code']}"


def _images(data: Path, manifest: bytes) -> bytes:
    """Return labelled images in the size of the network, for ``run.py --data``."""
    from deploy import run

    try:
        pairs = list(run.labelled_images(data, json.loads(manifest)))
    except run.Problem as error:
        raise DeviceError(str(error)) from error
    if not pairs:
        raise DeviceError(f"{data} holds no images; FOLDER/CLASS/image is looked for.")
    file = io.BytesIO()
    images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    np.savez(file, images=images, labels=labels)
    return file.getvalue()
