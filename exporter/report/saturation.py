"""What the saturation audit found, for the report."""

from __future__ import annotations

from exporter.quantization.audit import SaturationAudit
from exporter.report.not_measured import NotMeasured
from exporter.report.provenance import LayerSaturation, SaturationReport

_UNMEASURED = NotMeasured(not_measured="the target promises no x86 CPU without VNNI")


def saturation_report(audit: SaturationAudit) -> SaturationReport:
    """Return the report on an audit."""
    return SaturationReport(
        images=audit.images,
        layers=tuple(
            LayerSaturation(
                name=layer.name,
                operator=layer.operator,
                weight_bits=layer.weight_bits,
                safe=layer.safe,
                risky_share=layer.risky_share,
                clipped_share=_or_reason(layer.clipped_share),
                largest_error=_or_reason(layer.largest_error),
            )
            for layer in audit.layers
        ),
    )


def _or_reason(share: float | None) -> float | NotMeasured:
    return _UNMEASURED if share is None else share
