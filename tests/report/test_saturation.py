from __future__ import annotations

from exporter.quantization.audit import LayerAudit, SaturationAudit
from exporter.report.model import LayerSaturation, NotMeasured
from exporter.report.saturation import saturation_report


def audited(clipped: float | None, error: float | None) -> LayerAudit:
    return LayerAudit(
        name="a",
        operator="Conv",
        weight_bits=8,
        safe=False,
        risky_share=0.1,
        clipped_share=clipped,
        largest_error=error,
    )


def test_what_was_not_measured_is_no_number() -> None:
    report = saturation_report(
        SaturationAudit(layers=(audited(0.25, 0.5), audited(None, None)), images=8)
    )

    assert report.images == 8
    measured, unmeasured = report.layers
    assert measured == LayerSaturation(
        name="a",
        operator="Conv",
        weight_bits=8,
        safe=False,
        risky_share=0.1,
        clipped_share=0.25,
        largest_error=0.5,
    )
    reason = NotMeasured(not_measured="the target promises no x86 CPU without VNNI")
    assert (unmeasured.clipped_share, unmeasured.largest_error) == (reason, reason)
