"""The page of a web bundle: its resizing in Node, all of it in headless Chromium.

Both are optional: Node from anywhere, and for the browser Chromium and onnxruntime-web
(``npm install --no-save onnxruntime-web`` in the project's folder).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

import deploy.run
from benchmarks.chromium import find_chromium, find_runtime, open_page, served
from exporter.targets import TARGETS
from tests.tiny_bundle import CLASSES, tiny_bundle

NODE = shutil.which("node")
CHROMIUM, RUNTIME = find_chromium(), find_runtime()
PAGE = Path(deploy.run.__file__).parent / "web" / "classify.mjs"

needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("web"), target=TARGETS["web-int8"])


def in_node(script: str, **values: object) -> Any:
    """Return what ``script`` returns, the body of a function of ``page`` and ``values``."""
    assert NODE is not None
    program = f"""
        import * as page from {json.dumps(PAGE.as_uri())};
        import {{ readFileSync }} from "node:fs";
        const values = JSON.parse(readFileSync(0));
        const answer = ((page, values) => {{ {script} }})(page, values);
        console.log(JSON.stringify(answer));
    """
    command = [NODE, "--input-type=module", "--eval", program]
    done = subprocess.run(
        command, input=json.dumps(values), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@needs_node
@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize(
    "size", [(8, 6), (30, 40), (40, 30), (5, 4), (3, 50), (61, 7), (8, 60), (64, 6)]
)
def test_images_are_resized_to_the_byte_as_on_the_device(
    size: tuple[int, int], resize: str
) -> None:
    rows, columns = size
    rgb = np.random.default_rng(rows).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    rgba = np.concatenate([rgb, np.full((rows, columns, 1), 255, np.uint8)], axis=2)
    contract = {"height": 8, "width": 6, "resize": resize}
    found = in_node(
        "return Array.from(page.toContract(Uint8Array.from(values.rgba), values.rows, "
        "values.columns, values.contract));",
        rgba=rgba.ravel().tolist(),
        rows=rows,
        columns=columns,
        contract=contract,
    )
    assert found == deploy.run.to_contract(rgb, contract).ravel().tolist()


@needs_node
def test_golden_outputs_are_read_as_numpy_reads_them(bundle: Path) -> None:
    data = (bundle / "golden.npz").read_bytes()
    found = in_node(
        "const arrays = page.readNpz(Uint8Array.from(values.data).buffer);"
        "return Object.fromEntries(Object.entries(arrays).map("
        "([name, array]) => [name, [array.shape, Array.from(array.data, Number)]]));",
        data=list(data),
    )
    with np.load(bundle / "golden.npz") as arrays:
        expected = {name: [list(a.shape), a.ravel().tolist()] for name, a in arrays.items()}
    assert found == expected


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(
    RUNTIME is None, reason="`npm install --no-save onnxruntime-web` was not run here"
)
def test_a_browser_gives_the_golden_outputs_and_classifies(bundle: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    assert RUNTIME is not None
    (tmp_path / "bundle").symlink_to(bundle)
    (tmp_path / "ort").symlink_to(RUNTIME.parent)
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with (
        served(tmp_path) as address,
        open_page(CHROMIUM, f"{address}/bundle/index.html?ort=/ort/{RUNTIME.name}") as page,
    ):
        report = page.wait_for("window.report")
        assert report["error"] is None
        assert report["passed"] is True
        assert report["golden"]["agree"] == report["golden"]["images"] == 32
        assert report["latency"]["median_ms"] > 0
        page.choose_file("file", tmp_path / "a.png")
        best = page.wait_for("window.classified")
    contract = {"height": 8, "width": 6, "resize": "crop"}
    session = ort.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    image = deploy.run.to_contract(pixels, contract)[None]
    logits = session.run(None, {"image": image})[0][0].astype(float)
    odds = np.exp(logits - logits.max())
    order = np.argsort(-odds)[:3]
    assert [entry["class"] for entry in best] == [CLASSES[i] for i in order]
    shares = [entry["probability"] for entry in best]
    assert shares == pytest.approx((odds / odds.sum())[order].tolist(), abs=1e-4)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_without_the_runtime_says_so(bundle: Path) -> None:
    assert CHROMIUM is not None
    with (
        served(bundle) as address,
        open_page(CHROMIUM, f"{address}/index.html?ort=/nowhere.mjs") as page,
    ):
        report = page.wait_for("window.report")
        assert report["passed"] is False
        assert "nowhere.mjs" in report["error"]
        assert page.evaluate("document.getElementById('file').disabled") is True
