"""``MODEL_CARD.md``: the model card of a bundle, filled in where something was measured.

The sections are those of Mitchell et al. 2019, "Model Cards for Model Reporting"
(arXiv 1810.03993); the head is the metadata of Hugging Face's model cards
(https://huggingface.co/docs/hub/model-cards). What only the owner can know is left to the owner, in
words that can be searched for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from exporter.contract import InputContract
from exporter.report.markdown_table import escaped, table
from exporter.report.model import BuildReport
from exporter.report.verdict import NAMES, milliseconds, size, verdict, worst_class

CARD = "MODEL_CARD.md"
OWNER = "**To be filled in by the owner.**"
MOST_CLASSES = 20
"""Class names that are listed; ``labels.txt`` has all."""


def model_card(report: BuildReport, name: str, contract: InputContract) -> str:
    """Return the card as Markdown with a YAML head.

    Args:
        report: on the model that ships.
        name: the model's.
        contract: what it takes and tells.
    """
    model, dense = report.shipped_model, report.models.dense
    source = _source(report)
    parts = [
        _head(report, name, source),
        [f"# {escaped(name)} for {report.target}", "", verdict(report)],
        [
            "## Model details",
            "",
            (
                f"- Image classifier, {NAMES[report.shipped]}, {model.parameters:,} parameters, "
                f"{model.macs:,} multiply-adds an image, {size(model.bytes)}; sha256 "
                f"`{model.sha256}`."
            ),
            (
                f"- Input: one RGB image of {contract.height}x{contract.width} pixels, bytes, "
                f"`[N, {contract.height}, {contract.width}, 3]`; normalisation is part of the "
                "model."
            ),
            f"- Output: a logit for each of {len(contract.classes)} classes: {_classes(contract)}.",
            *_made(report),
            f"- Owner, contact, licence of the weights: {OWNER}",
        ],
        ["## Intended use", "", f"{OWNER} What it is for, for whom, and what it is not for."],
        [
            "## Factors",
            "",
            f"Measured by class, see below. Light, camera, region and other groups: {OWNER}",
        ],
        [
            "## Metrics",
            "",
            (
                "Top-1 on test images, with the shipped bytes, beside the float model it was made "
                "from; a loss with its 95 % confidence interval on the same images (Tango's score "
                "interval)."
            ),
        ],
        [
            "## Training and evaluation data",
            "",
            (
                f"- Source: {escaped(source)}. Parts that share no image train the network, choose "
                "its settings, calibrate its ranges and test it."
            ),
            f"- Test images: {model.total:,}. "
            + (
                f"Calibration images: {report.quantization.images:,}."
                if report.quantization
                else "No calibration: it computes in float."
            ),
            f"- Where the images come from, consent, licence: {OWNER}",
        ],
        ["## Quantitative analyses", "", *_figures(report), ""],
        [
            "## Limits",
            "",
            f"- The worst class lost most: {escaped(worst_class(report))}.",
            *_detectable(report),
            "- Every image gets one of the classes, also one that shows none of them.",
            (
                f"- Times hold for {escaped(report.machine.cpu)} and {report.threads} thread(s): "
                f"{milliseconds(model.p50_ms)}, dense float {milliseconds(dense.p50_ms)}. `run.py` "
                "measures them anew."
            ),
            *(f"- {escaped(warning)}" for warning in report.warnings),
        ],
        ["## Energy", "", "Not measured, neither of training nor of use."],
        ["## Ethical considerations", "", f"Not assessed. {OWNER}"],
    ]
    return "\n\n".join("\n".join(lines).rstrip() for lines in parts) + "\n"


def _head(report: BuildReport, name: str, source: str) -> list[str]:
    """Return the metadata as YAML; a JSON value is one of YAML's, too."""
    document = {
        "library_name": "onnxruntime",
        "pipeline_tag": "image-classification",
        "tags": ["onnx", "edge", NAMES[report.shipped], report.target],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": source, "type": source, "split": "test"},
                        "metrics": [
                            {
                                "type": "accuracy",
                                "name": "top-1",
                                "value": round(report.shipped_model.top1 / 100, 6),
                            }
                        ],
                    }
                ],
            }
        ],
    }
    return [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items()),
        "---",
    ]


def _made(report: BuildReport) -> list[str]:
    lines = []
    if report.intake:
        lines.append("- Made from a trained ONNX file that was brought along.")
    if report.pruning:
        share = 100 * report.pruning.removed_share
        lines.append(
            f"- Pruned by `{report.pruning.criterion}`: {share:.1f} % of the "
            f"{report.pruning.unit} removed, then fine-tuned."
        )
    if report.quantization:
        lines.append(f"- Quantized to 8-bit integers, ranges by `{report.quantization.method}`.")
    return [*lines, "- The whole recipe is in `recipe.toml`, the evidence in `report.html`."]


def _classes(contract: InputContract) -> str:
    names = [escaped(" ".join(name.split())) for name in contract.classes[:MOST_CLASSES]]
    more = len(contract.classes) - len(names)
    return ", ".join(names) + (f" and {more:,} more (`labels.txt`)" if more else "")


def _figures(report: BuildReport) -> list[str]:
    low, high = report.drop_ci
    lines = [
        (
            f"- Top-1 {report.shipped_model.top1:.2f} %, dense float "
            f"{report.models.dense.top1:.2f} %; "
            f"points lost {report.drop_points:.2f} (95 % CI {low:.2f} to {high:.2f})."
        ),
        f"- Always the most frequent class: {report.majority_top1:.2f} %.",
    ]
    if report.evidence is None:
        return lines
    found = report.evidence.accuracy
    lines.append(
        "- Expected calibration error "
        f"{found.shipped_confidence.calibration_error:.2f} points, dense float "
        f"{found.dense_confidence.calibration_error:.2f}."
    )
    rows = (
        [escaped(one.name), f"{one.count:,}", f"{one.before:.2f} %", f"{one.after:.2f} %"]
        for one in found.classes
    )
    return [*lines, "", *table(["class", "test images", "dense float", "shipped"], rows)]


def _detectable(report: BuildReport) -> list[str]:
    if report.evidence is None:
        return []
    points = report.evidence.accuracy.detectable_drop_points
    return [f"- So many test images can show a loss of {points:.2f} points or more, not a smaller."]


def _source(report: BuildReport) -> str:
    part = report.recipe.get("data")
    value = part.get("data") if isinstance(part, Mapping) else None
    # A folder is named without the way to it: that is nobody else's business.
    return Path(str(value)).name if value else "not stated"
