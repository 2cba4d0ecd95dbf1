from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from exporter.artifacts import Artifact
from exporter.data.splits import Split
from exporter.errors import CacheError, DataError, GraphError
from exporter.progress import Advance, shown_on
from exporter.verification import predict as module
from exporter.verification.predict import predict, predict_in_float
from exporter.verification.session import open_session
from tests.verification.linear_model import RIGHT, linear_model, qdq_model

MakeSplit = Callable[[str, int, int], Split]


@pytest.fixture
def data(make_split: MakeSplit) -> Split:
    # two whole batches and a ragged one
    return make_split("test", 2 * module.BATCH + 3, 7)


def test_logits_of_every_image_match_numpy(tmp_path: Path, data: Split) -> None:
    weights = np.array([[1, -2, 0.5, 3], [0, 1, 1, -1], [2, 0, -1, 1]], np.float32)

    result = predict(tmp_path, linear_model(tmp_path / "model.onnx", weights), data)

    images, _ = data.arrays()
    expected = ((images.astype(np.float64) - 128) / 64).mean(axis=(1, 2)) @ weights
    logits = np.load(result.logits.path)
    assert result.count == len(images) == 131
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert result.logits == Artifact.of(tmp_path / "logits.npy")


def test_progress_counts_every_image_once(tmp_path: Path, data: Split) -> None:
    class Counter:
        done = 0.0
        total = 0.0

        @contextmanager
        def task(self, description: str, total: float) -> Iterator[Advance]:
            self.total = total

            def advance(amount: float, note: str) -> None:
                self.done += amount

            yield advance

        def message(self, text: str) -> None:
            raise AssertionError(text)

    counter = Counter()
    with shown_on(counter):
        predict(tmp_path, linear_model(tmp_path / "model.onnx", RIGHT), data)

    assert (counter.done, counter.total) == (131, 131)


def test_a_file_for_one_image_per_run_gives_the_same_logits(tmp_path: Path, data: Split) -> None:
    one = predict(tmp_path, linear_model(tmp_path / "one.onnx", RIGHT, batch=1), data)
    logits = np.load(one.logits.path)
    many = predict(tmp_path, linear_model(tmp_path / "many.onnx", RIGHT), data)

    np.testing.assert_array_equal(logits, np.load(many.logits.path))
    assert one.count == many.count == 131


def test_logits_that_are_not_finite_name_the_file(tmp_path: Path, data: Split) -> None:
    weights = RIGHT.copy()
    weights[1, 1] = np.nan
    model = linear_model(tmp_path / "broken.onnx", weights)

    with pytest.raises(GraphError, match=r"broken\.onnx gives logits that are not finite"):
        predict(tmp_path, model, data)

    assert not (tmp_path / "logits.npy").exists()


def test_images_of_another_size_are_refused(tmp_path: Path, data: Split) -> None:
    model = linear_model(tmp_path / "model.onnx", RIGHT, side=24)

    with pytest.raises(DataError, match=r"test split are 20x20x3, but .* wants 24x24x3"):
        predict(tmp_path, model, data)


def test_an_empty_split_is_refused(tmp_path: Path, make_split: MakeSplit) -> None:
    with pytest.raises(DataError, match="The test split is empty"):
        predict(tmp_path, linear_model(tmp_path / "m.onnx", RIGHT), make_split("test", 0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"input_name": "x"}, r"inputs x tensor\(uint8\)", id="input name"),
        pytest.param({"batch": 2}, r"inputs image tensor\(uint8\) \[2, 20", id="fixed batch"),
        pytest.param({"output_name": "y"}, r"outputs y tensor\(float\)", id="output name"),
    ],
)
def test_a_file_that_breaks_the_contract_is_refused(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    model = linear_model(tmp_path / "model.onnx", RIGHT, **change)  # type: ignore[arg-type]

    with pytest.raises(GraphError, match=message):
        open_session(model)


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")

    with pytest.raises(GraphError, match=r"model\.onnx cannot be loaded") as caught:
        open_session(Artifact.of(path))

    assert "\n" not in str(caught.value)


def test_a_file_that_changed_is_found_before_it_is_used(tmp_path: Path) -> None:
    model = linear_model(tmp_path / "model.onnx", RIGHT)
    model.path.write_bytes(model.path.read_bytes() + b"\0")

    with pytest.raises(CacheError, match="has changed on disk"):
        open_session(model)


def kernels_of(model: Artifact, folder: Path, settings: dict[str, str]) -> set[str]:
    """Operators that ONNX Runtime executes, from its own profile."""
    import json

    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    session = ort.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    session.run(None, {"image": np.zeros((1, 20, 20, 3), np.uint8)})
    events = json.loads(Path(session.end_profiling()).read_text())
    return {event["args"]["op_name"] for event in events if event["cat"] == "Node"}


def test_the_control_runs_the_same_file_without_integer_kernels(
    tmp_path: Path, data: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = qdq_model(tmp_path / "int8.onnx")
    used: list[dict[str, str]] = []

    def spy(model: Artifact, settings: dict[str, str]) -> ort.InferenceSession:
        used.append(dict(settings))
        return open_session(model, settings=settings)

    monkeypatch.setattr(module, "open_session", spy)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    integer = np.load(predict(tmp_path / "a", model, data).logits.path)
    control = np.load(predict_in_float(tmp_path / "b", model, data).logits.path)

    assert "QLinearConv" in kernels_of(model, tmp_path, used[0])
    assert "QLinearConv" not in kernels_of(model, tmp_path, used[1])
    np.testing.assert_allclose(integer, control, atol=1 / 64)  # one step of the output's scale
