"""The report as ``report.md``: everything that report.json holds, for reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from exporter.report.accuracy import accuracy_lines
from exporter.report.device import COLUMNS as DEVICE_COLUMNS
from exporter.report.device import DeviceReport, device_notes, device_rows
from exporter.report.float_layers import COLUMNS as TRIAL_COLUMNS
from exporter.report.float_layers import (
    FloatLayersReport,
    float_layers_summary,
    trial_notes,
    trial_rows,
)
from exporter.report.instruction_sets import (
    COLUMNS,
    InstructionSetReport,
    emulators,
    measured_rows,
    unmeasured,
)
from exporter.report.intake import lines as intake_lines
from exporter.report.latency import latency_lines
from exporter.report.markdown_table import escaped, table
from exporter.report.model import (
    BuildReport,
    Machine,
    NotMeasured,
    PruningReport,
    QuantizationReport,
    SaturationReport,
    Scalar,
    StageReport,
)
from exporter.report.recovery import COLUMNS as RECOVERY_COLUMNS
from exporter.report.recovery import (
    SENSITIVITY_COLUMNS,
    RecoveryReport,
    recovery_rows,
    sensitivity_rows,
    summary,
)
from exporter.report.recovery import notes as recovery_notes
from exporter.report.verdict import (
    NAMES,
    advice,
    columns,
    facts,
    outcome,
    remarks,
    size,
    verdict,
    worst_class,
)


def markdown(report: BuildReport) -> str:
    """Return the whole report as GitHub-flavoured Markdown that ends with a newline."""
    parts = [
        [f"# Report on the {NAMES[report.shipped]} model for {report.target}"],
        [f"**{'Passed' if report.passed else 'Failed'}.** {verdict(report)}"],
        list(map(escaped, remarks(report))),
        [f"- {tip}" for tip in advice(report)],
        _comparison(report),
        ["## Gates", "", *_gates(report)],
        ["## Accuracy", "", *_accuracy(report)],
        _instruction_sets(report.instruction_sets) if report.instruction_sets else [],
        ["## Speed", "", *_speed(report)],
        _devices(report.devices) if report.devices else [],
        ["## Download", "", *_download(report)],
        ["## Own ONNX file", "", *map(escaped, intake_lines(report.intake))]
        if report.intake
        else [],
        _pruning(report.pruning) if report.pruning else [],
        _quantization(report.quantization) if report.quantization else [],
        ["## Machine", "", *_machine(report.machine)],
        _stages(report.stages) if report.stages else [],
        ["## Recipe", "", "```toml", *_toml(report.recipe), "```"] if report.recipe else [],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _comparison(report: BuildReport) -> list[str]:
    shown = columns(report)
    rows = zip(*(facts(model) for _, model in shown), strict=True)
    return table(
        ["", *(name for name, _ in shown)],
        ([row[0][0], *(value for _, value in row)] for row in rows),
    )


def _gates(report: BuildReport) -> list[str]:
    rows = ([gate.name, outcome(gate), "yes" if gate.passed else "no"] for gate in report.gates)
    return table(["gate", "outcome", "passed"], rows)


def _accuracy(report: BuildReport) -> list[str]:
    low, high = report.drop_ci
    flips, gap = report.flips, report.kernel_gap
    lines = [
        (
            f"- Drop against dense float: {report.drop_points:.2f} points "
            f"(95 % CI {low:.2f} to {high:.2f})."
        ),
        (
            f"- Predictions that changed: {100 * report.changed_share:.2f} % "
            f"({flips.right_to_wrong} right to wrong, {flips.wrong_to_right} wrong to right, "
            f"{flips.wrong_to_wrong} wrong to wrong)."
        ),
        f"- Worst class: {escaped(worst_class(report))}.",
    ]
    if gap is not None:
        lines.append(
            f"- Integer kernels against the same file in float: {gap.drop_points:.2f} points "
            f"lost, {100 * gap.changed_share:.2f} % of predictions changed."
        )
    return lines + (accuracy_lines(report.evidence.accuracy) if report.evidence else [])


def _instruction_sets(entries: Sequence[InstructionSetReport]) -> list[str]:
    notes = [line for line in (emulators(entries), *unmeasured(entries)) if line]
    return [
        "## Instruction sets",
        "",
        *table(COLUMNS, measured_rows(entries)),
        "",
        *(f"- {note}" for note in notes),
    ]


def _devices(devices: Sequence[DeviceReport]) -> list[str]:
    rows = (map(escaped, row) for row in device_rows(devices))
    notes = [f"- {escaped(note)}" for note in device_notes(devices)]
    return ["## Devices", "", *table(DEVICE_COLUMNS, map(tuple, rows)), "", *notes]


def _speed(report: BuildReport) -> list[str]:
    runs = ", ".join(f"{name} {model.runs:,}" for name, model in columns(report))
    pinned = report.pinned_cores
    cores = (
        f"not pinned to cores ({pinned.not_measured})"
        if isinstance(pinned, NotMeasured)
        else f"pinned to cores {', '.join(map(str, pinned))}"
    )
    return [
        (
            f"One image at a time, threads: {report.threads}, {cores}. The models took turns in "
            f"random order. Timed runs: {runs}."
        ),
        "",
        *latency_lines(report),
    ]


def _download(report: BuildReport) -> list[str]:
    rows = [
        [name, size(model.bytes), size(model.gzip_bytes), size(model.zstd_bytes)]
        for name, model in columns(report)
    ]
    return table(["model", "file", "gzip -9", "zstd -19"], rows)


def _pruning(pruning: PruningReport) -> list[str]:
    widths = ([escaped(w.layer), str(w.before), str(w.after)] for w in pruning.layers)
    return [
        "## Pruning",
        "",
        (
            f"- Criterion {pruning.criterion}: {100 * pruning.removed_share:.1f} % of the "
            f"{pruning.unit} removed, {_asked(pruning)}."
        ),
        f"- Channels that went first because they changed nothing: {pruning.dead_channels:,}.",
        (
            f"- Parameters {pruning.parameters_before:,} to {pruning.parameters_after:,}, "
            f"multiply-adds {pruning.macs_before:,} to {pruning.macs_after:,}."
        ),
        (
            f"- Largest relative logit difference: {pruning.fold_error:.1e} by folding, "
            f"{pruning.shrink_error:.1e} by shrinking."
        ),
        *_teacher(pruning),
        "",
        *table(["round", "removed", "right after", "epochs", "fine-tuned"], _rounds(pruning)),
        "",
        *table(["layer", "width before", "width after"], widths),
        *_left_alone(pruning),
    ]


def _asked(pruning: PruningReport) -> str:
    budget = pruning.budget
    if budget is not None:
        return f"for {budget.name} {budget.limit:,g}: {budget.planned:,.7g} reckoned"
    assert pruning.asked_share is not None
    return f"{100 * pruning.asked_share:g} % asked for"


def _teacher(pruning: PruningReport) -> list[str]:
    found = pruning.distillation
    if found is None:
        return []
    return [
        (
            f"- On validation images {found.top1_with:.2f} % with the teacher, "
            f"{found.top1_without:.2f} % without."
        )
    ]


def _rounds(pruning: PruningReport) -> Iterable[list[str]]:
    for number, done in enumerate(pruning.rounds, start=1):
        yield [
            str(number),
            f"{100 * done.removed_share:.1f} %",
            f"{done.top1_before:.2f} %",
            str(done.epochs),
            f"{done.top1_after:.2f} %",
        ]


def _left_alone(pruning: PruningReport) -> list[str]:
    rows = [[escaped(f.layer), str(f.width), escaped(f.reason)] for f in pruning.left_alone]
    return ["", *table(["layer", "width", "left alone because"], rows)] if rows else []


def _quantization(quantization: QuantizationReport) -> list[str]:
    seven = ", ".join(map(escaped, quantization.seven_bit_layers)) or "none"
    return [
        "## Quantization",
        "",
        f"- Ranges: method {quantization.method}, {quantization.images:,} calibration images.",
        *_awareness(quantization),
        f"- Integer operators: {_counted(quantization.integer)}.",
        f"- Float operators: {_counted(quantization.floating)}.",
        *(
            f"- {quantization.floating[operator]} stay float: {operator} {escaped(reason)}."
            for operator, reason in quantization.reasons.items()
        ),
        f"- Layers with 7-bit weights: {seven}.",
        *_saturation(quantization.saturation),
        *(_float_layers(quantization.float_layers) if quantization.float_layers else []),
        *(_recovery(quantization.recovery) if quantization.recovery else []),
    ]


def _float_layers(found: FloatLayersReport) -> list[str]:
    rows = [map(escaped, row) for row in trial_rows(found)]
    notes = [float_layers_summary(found), *trial_notes(found)]
    return [
        "",
        "### Layers in float",
        "",
        *(f"- {escaped(note)}" for note in notes),
        *(["", *table(TRIAL_COLUMNS, map(tuple, rows))] if rows else []),
    ]


def _recovery(recovery: RecoveryReport) -> list[str]:
    rows = (map(escaped, row) for row in recovery_rows(recovery))
    layers = [map(escaped, row) for row in sensitivity_rows(recovery)]
    scan = (
        f"Each layer quantized alone, on {recovery.sensitivity_images:,} calibration images: how "
        "far the class probabilities move from those of the float model."
    )
    return [
        "",
        "### Recovery",
        "",
        *table(RECOVERY_COLUMNS, map(tuple, rows)),
        "",
        *(f"- {escaped(line)}" for line in (summary(recovery), *recovery_notes(recovery))),
        *(["", scan, "", *table(SENSITIVITY_COLUMNS, map(tuple, layers))] if layers else []),
    ]


def _awareness(quantization: QuantizationReport) -> list[str]:
    epochs = quantization.aware_epochs
    return [f"- Weights and ranges learned to be rounded in {epochs} epochs."] if epochs else []


def _saturation(saturation: SaturationReport) -> list[str]:
    risky = [layer for layer in saturation.layers if not layer.safe]
    if not risky:
        return ["- Saturation on x86 CPUs without VNNI: none, proven for every layer and image."]
    rows = (
        [
            escaped(layer.name),
            layer.operator,
            str(layer.weight_bits),
            f"{100 * layer.risky_share:.2g} %",
            _percent(layer.clipped_share),
            _percent(layer.largest_error),
        ]
        for layer in risky
    )
    header = ["layer", "operator", "weight bits", "risky pairs", "clipped pairs", "largest error"]
    measured = (
        f"Measured on {saturation.images} calibration images; errors are shares of the layer's "
        "largest output."
        if saturation.images
        else "Not measured, since the target promises no such CPU."
    )
    return [
        (
            f"- Saturation on x86 CPUs without VNNI: possible in {len(risky)} of "
            f"{len(saturation.layers)} layers. {measured}"
        ),
        "",
        *table(header, rows),
    ]


def _percent(share: float | NotMeasured) -> str:
    return "not measured" if isinstance(share, NotMeasured) else f"{100 * share:.2g} %"


def _machine(machine: Machine) -> list[str]:
    found = machine.instruction_sets
    sets = found if isinstance(found, NotMeasured) else ", ".join(found) or "none of the known"
    values = {
        "CPU": machine.cpu,
        "architecture": machine.architecture,
        "instruction sets": _or_reason(sets),
        "cores": str(machine.cores),
        "load average": _or_reason(machine.load_average),
        "frequency governor": _or_reason(machine.governor),
        "operating system": machine.operating_system,
        "Python": machine.python,
        "ONNX Runtime": machine.onnxruntime,
    }
    return [f"- {name}: {escaped(value)}" for name, value in values.items()]


def _stages(stages: Sequence[StageReport]) -> list[str]:
    rows = ([s.name, f"{s.seconds:.1f}", "yes" if s.cached else "no"] for s in stages)
    return ["## Stages", "", *table(["stage", "seconds", "from the cache"], rows)]


def _toml(recipe: Mapping[str, Scalar | Mapping[str, Scalar]]) -> Iterable[str]:
    """Yield the recipe as TOML. A JSON scalar is one of TOML's too; what is null is left out."""
    for key, value in recipe.items():
        if not isinstance(value, Mapping) and value is not None:
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            yield ""
            yield f"[{key}]"
            yield from _toml(value)


def _counted(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in operators.items()) or "none"


def _or_reason(value: str | float | NotMeasured) -> str:
    return f"unknown ({value.not_measured})" if isinstance(value, NotMeasured) else str(value)
