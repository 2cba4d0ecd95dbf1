from __future__ import annotations

from exporter.quantization.audit import LayerAudit, SaturationAudit
from exporter.report.model import LayerSaturation, NotMeasured
from exporter.report.saturation import saturation_report


def test_what_was_not_measured_is_no_number() -> None:
    facts = {"operator": "Conv", "weight_bits": 8, "safe": False, "risky_share": 0.1}
    layers = (
        LayerAudit(name="a", **facts, clipped_share=0.25, largest_error=0.5),
        LayerAudit(name="b", **facts, clipped_share=None, largest_error=None),
    )

    report = saturation_report(SaturationAudit(layers=layers, images=8))

    reason = NotMeasured(not_measured="the target promises no x86 CPU without VNNI")
    assert report.images == 8
    assert report.layers == (
        LayerSaturation(name="a", **facts, clipped_share=0.25, largest_error=0.5),
        LayerSaturation(name="b", **facts, clipped_share=reason, largest_error=reason),
    )
