"""What can be chosen: targets, models, criteria, calibration methods."""

from __future__ import annotations

from exporter.cli.answer import Answer, listing
from exporter.cli.command import command


@command()
def targets() -> Answer:
    """List the targets: where a model can run."""
    from exporter.targets import TARGETS

    return listing(
        [
            {
                "target": target.name,
                "summary": target.summary,
                "ships": target.scheme,
                "seven_bit_weights": None if target.scheme == "float" else target.seven_bit_weights,
                "per_channel": target.per_channel,
                "channel_multiple": target.channel_multiple,
                "batch": 1 if target.fixed_batch else "any",
                "files": target.files,
                "min_speedup": target.min_speedup,
                "instruction_sets": target.isas,
            }
            for target in TARGETS.values()
        ],
        hidden=("ships", "per_channel", "channel_multiple", "batch", "min_speedup"),
    )


@command()
def models() -> Answer:
    """List the networks that can be trained, and how to name any other."""
    from exporter.models import MODELS
    from exporter.models.foreign import FORMS

    unknown = {"widths": None, "smallest_side": None, "learning_rate": None}
    return listing(
        [
            *(
                {
                    "model": family.name,
                    "summary": family.summary,
                    "widths": family.widths,
                    "smallest_side": family.smallest_side,
                    "learning_rate": family.learning_rate,
                }
                for family in MODELS.values()
            ),
            *({"model": form, "summary": text, **unknown} for form, text in FORMS.items()),
        ]
    )


@command()
def criteria() -> Answer:
    """List the importance scores that decide what is pruned."""
    from exporter.pruning.criteria import CRITERIA

    return listing(
        [
            {
                "criterion": criterion.name,
                "summary": criterion.summary,
                "needs": criterion.needs,
                "single_weights": criterion.weights is not None,
                "comparable": criterion.comparable,
                "source": criterion.source,
            }
            for criterion in CRITERIA.values()
        ],
        hidden=("comparable",),
    )


@command()
def methods() -> Answer:
    """List the calibration methods that choose activation ranges."""
    from calibration import METHODS

    best = {"method": "auto", "summary": "tries them all, takes the best on validation images"}
    return listing(
        [best, *({"method": row.name, "summary": row.summary} for row in METHODS.values())]
    )
