from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from exporter.artifacts import Artifact, Cache
from exporter.config import PruneConfig, VerifyConfig
from exporter.data.splits import Splits
from exporter.errors import GraphError
from exporter.report.json import dumps
from exporter.report.model import BuildReport, Flips, KernelGap
from exporter.report.schema import SCHEMA_FILE
from exporter.targets import TARGETS
from exporter.verification import verify as module
from exporter.verification.detectable_drop import detectable_drop
from exporter.verification.evidence import accuracy_evidence
from exporter.verification.latency import measure_latency
from exporter.verification.score_interval import drop_interval
from exporter.verification.verify import Candidate, verify
from tests.verification.linear_model import RIGHT, linear_model, qdq_model

QUICK = VerifyConfig(timing_seconds=0.1, max_drop=1.0, min_speedup=0.0)


def candidate(file: Artifact) -> Candidate:
    return Candidate(file=file, parameters=9, macs=1200)


@pytest.fixture
def dense(tmp_path: Path) -> Candidate:
    return candidate(linear_model(tmp_path / "dense.onnx", RIGHT))


@pytest.fixture
def int8(tmp_path: Path) -> Candidate:
    return candidate(qdq_model(tmp_path / "int8.onnx"))


def run(
    tmp_path: Path,
    splits: Splits,
    dense: Candidate,
    int8: Candidate,
    small: Candidate | None = None,
    config: VerifyConfig = QUICK,
) -> BuildReport:
    cache = Cache(tmp_path / "cache")
    classes = splits.contract.classes
    return verify(config, cache, TARGETS["cpu-int8"], dense, small, int8, splits.test, classes)


def test_an_int8_model_as_good_as_its_float_model_passes(
    tmp_path: Path, splits: Splits, dense: Candidate, int8: Candidate
) -> None:
    report = run(tmp_path, splits, dense, int8)

    assert report.passed
    assert report.target == "cpu-int8"
    assert report.models.small is None
    assert report.bundle is None
    for model, given in ((report.models.dense, dense), (report.shipped_model, int8)):
        assert model.path == str(given.file.path)
        assert model.bytes == given.file.path.stat().st_size
        assert 0 < model.zstd_bytes < model.bytes
        assert 0 < model.gzip_bytes < model.bytes
        assert (model.correct, model.total, model.top1) == (30, 30, 100.0)
        assert (model.parameters, model.macs) == (9, 1200)
        assert 0 < model.p50_ms <= model.p90_ms
    assert report.drop_points == 0.0
    assert report.flips == Flips(right_to_wrong=0, wrong_to_right=0, wrong_to_wrong=0)
    assert report.kernel_gap == KernelGap(drop_points=0.0, changed_share=0.0)
    assert report.size_ratio == report.shipped_model.bytes / report.models.dense.bytes
    assert report.speedup_ci[0] <= report.speedup <= report.speedup_ci[1]
    assert [gate.measured for gate in report.gates] == [report.drop_points, report.speedup]


def test_a_model_that_lost_a_class_fails_and_the_class_is_named(
    tmp_path: Path, splits: Splits, dense: Candidate
) -> None:
    confused = RIGHT[:, [0, 2, 1]]  # green and red change places
    confused[:, 2] = 0.0  # and what was red is never very likely
    int8 = candidate(linear_model(tmp_path / "int8.onnx", confused))

    report = run(tmp_path, splits, dense, int8)

    assert not report.passed
    assert [(gate.name, gate.passed) for gate in report.gates] == [
        ("max-drop", False),
        ("min-speedup", True),
    ]
    assert report.drop_points == 100 * (30 - report.shipped_model.correct) / 30 > 1.0
    assert report.worst_class.drop_points > 0
    assert report.flips.right_to_wrong == 30 - report.shipped_model.correct


def test_without_int8_the_pruned_float_model_is_judged(
    tmp_path: Path, splits: Splits, dense: Candidate
) -> None:
    confused = RIGHT[:, [1, 0, 2]]
    small = candidate(linear_model(tmp_path / "small.onnx", confused))
    cache = Cache(tmp_path / "cache")
    classes = splits.contract.classes
    target = TARGETS["cpu-fp32"]

    report = verify(QUICK, cache, target, dense, small, None, splits.test, classes)

    assert (report.shipped, report.models.int8, report.kernel_gap) == ("small", None, None)
    assert report.models.small is not None
    assert report.drop_points == 100 * (30 - report.models.small.correct) / 30 > 1.0
    assert not report.passed
    assert "predict-in-float" not in {stage.name for stage in cache.runs}


def test_the_control_of_an_optimized_file_is_what_it_was_made_of(
    tmp_path: Path, splits: Splits, dense: Candidate, int8: Candidate
) -> None:
    wrong = linear_model(tmp_path / "other.onnx", RIGHT[:, [1, 0, 2]])
    report = run(tmp_path, splits, dense, dataclasses.replace(int8, source=wrong))
    assert report.kernel_gap is not None
    assert report.kernel_gap.changed_share > 0.3


def test_the_report_brings_its_evidence(
    tmp_path: Path, splits: Splits, dense: Candidate, int8: Candidate
) -> None:
    report = run(tmp_path, splits, dense, int8)

    assert report.evidence is not None
    found = report.evidence.accuracy
    assert found.mcnemar_p == 1.0
    assert found.detectable_drop_points == pytest.approx(100 * detectable_drop(0.0, 30))
    assert found.top5 is None
    assert [entry.name for entry in found.classes] == list(splits.contract.classes)
    assert [entry.count for entry in found.classes] == [10, 10, 10]
    assert [step.step for step in found.steps] == ["quantization"]
    fewer = run(tmp_path, splits, dense, dataclasses.replace(int8, parameters=8)).evidence
    assert fewer is not None
    assert [step.step for step in fewer.accuracy.steps] == ["pruning and quantization"]
    times = report.evidence.latency
    assert times.noise >= 1
    assert times.same_file_ratio_ci[0] <= times.same_file_ratio <= times.same_file_ratio_ci[1]
    low, high = report.speedup_ci
    assert times.beyond_noise is (low > times.noise or high < 1 / times.noise)


@pytest.mark.parametrize(("confidence", "passed"), [(0.0, True), (0.5, False), (0.95, False)])
def test_with_confidence_the_end_of_the_interval_is_gated(
    tmp_path: Path,
    splits: Splits,
    dense: Candidate,
    int8: Candidate,
    confidence: float,
    passed: bool,
) -> None:
    config = dataclasses.replace(QUICK, confidence=confidence)

    report = run(tmp_path, splits, dense, int8, config=config)

    assert report.passed is passed
    drop, speed = report.gates
    assert (drop.confidence, speed.confidence) == (confidence or None,) * 2
    assert report.drop_points == 0.0
    bound = 100 * drop_interval(0, 0, 30, confidence)[1] if confidence else 0.0
    assert drop.measured == pytest.approx(bound)
    assert isinstance(speed.measured, float)
    assert speed.measured <= report.speedup


def test_many_classes_have_a_top_5() -> None:
    logits = np.tile(np.arange(12, dtype=np.float32), (4, 1))
    labels = np.array([11, 7, 6, 0])  # ranks 1, 5, 6, 12

    found = accuracy_evidence(logits, -logits, labels, tuple("abcdefghijkl"), ())

    assert found.top5 is not None
    assert (found.top5.before, found.top5.after, found.top5.drop_points) == (50.0, 25.0, 25.0)


def test_a_model_that_is_too_slow_fails(
    tmp_path: Path, splits: Splits, dense: Candidate, int8: Candidate
) -> None:
    config = dataclasses.replace(QUICK, min_speedup=1e6)

    report = run(tmp_path, splits, dense, int8, config=config)

    assert not report.passed
    assert [gate.passed for gate in report.gates] == [True, False]


@pytest.mark.parametrize(("spare", "passed"), [(0, True), (-1, False)])
def test_a_budget_in_bytes_is_a_gate(
    tmp_path: Path, splits: Splits, dense: Candidate, int8: Candidate, spare: int, passed: bool
) -> None:
    size = int8.file.path.stat().st_size
    budget = PruneConfig(max_kb=(size + spare) / 1000)
    classes = splits.contract.classes
    cache = Cache(tmp_path / "cache")

    report = verify(
        QUICK, cache, TARGETS["cpu-int8"], dense, None, int8, splits.test, classes, budget
    )

    assert report.passed is passed
    assert report.gates[-1].name == "max-kb"
    assert report.gates[-1].measured == size / 1000


def test_accuracy_comes_from_the_cache_and_times_never_do(
    tmp_path: Path,
    splits: Splits,
    dense: Candidate,
    int8: Candidate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed: list[object] = []
    measure = measure_latency

    def spy(*args, **options):  # type: ignore[no-untyped-def]
        timed.append(args)
        return measure(*args, **options)

    monkeypatch.setattr(module, "measure_latency", spy)
    cached = []
    for _ in range(2):
        cache = Cache(tmp_path / "cache")
        verify(
            QUICK,
            cache,
            TARGETS["cpu-int8"],
            dense,
            None,
            int8,
            splits.test,
            splits.contract.classes,
        )
        cached.append([(stage.name, stage.cached) for stage in cache.runs])

    names = ["predict", "predict", "predict-in-float", "download-size", "download-size"]
    assert cached == [[(name, False) for name in names], [(name, True) for name in names]]
    assert len(timed) == 2


def test_a_real_report_fits_the_shipped_schema(
    tmp_path: Path, splits: Splits, dense: Candidate, int8: Candidate
) -> None:
    document = json.loads(dumps(run(tmp_path, splits, dense, int8, small=dense)))

    jsonschema.validate(document, json.loads(SCHEMA_FILE.read_text()))
    assert document["models"]["small"]["top1"] == 100.0


def test_a_model_with_other_classes_is_refused(
    tmp_path: Path, splits: Splits, dense: Candidate
) -> None:
    int8 = candidate(linear_model(tmp_path / "four.onnx", np.ones((3, 4), np.float32)))

    with pytest.raises(GraphError, match=r"four\.onnx tells 4 classes apart, but the data has 3"):
        run(tmp_path, splits, dense, int8)
