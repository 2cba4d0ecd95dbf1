"""How far an int8 file agrees with its float file, for a person and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.cli.answer import Answer, facts, to_json

if TYPE_CHECKING:
    from exporter.agreement.measure import OutputAgreement
    from exporter.agreement.quantize import Agreeing

GATE_FAILED = 1


def agreement_answer(made: Agreeing, out: Path) -> Answer:
    """Return the answer of ``quantize --task any``; its code tells whether the gate was met."""
    int8, gate, found = made.int8, made.gate, made.agreement
    known = {
        "model": out if gate.passed else None,
        "target": int8.target,
        "method": int8.method,
        "executed_as_integers": int8.coverage.integer,
        "executed_in_float": int8.coverage.floating,
        "why_float": int8.coverage.reasons,
        "seven_bit_layers": int8.seven_bit_layers,
    }

    def draw(console: Console) -> None:
        facts(known).draw(console)
        console.print(_table(found.outputs))
        console.print(Text(f"int8 against float on {found.images:,} test images.", style="dim"))
        mark = "Passed" if gate.passed else "Failed, no file was written"
        console.print(
            Text(
                f"{mark}: min-sqnr, {gate.measured:.2f} dB in the worst output, at least "
                f"{gate.limit:g} dB is wanted."
            )
        )

    document = {**known, "passed": gate.passed, "gates": [gate], "agreement": found}
    return Answer(json=to_json(document), draw=draw, code=0 if gate.passed else GATE_FAILED)


def _table(outputs: tuple[OutputAgreement, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("output", overflow="fold")
    for heading in ("shape", "SQNR", "cosine", "worst image", "same argmax"):
        table.add_column(heading, justify="right")
    for output in outputs:
        same = output.same_argmax
        table.add_row(
            Text(output.name),
            "x".join(map(str, output.shape)),
            f"{output.sqnr_db:.2f} dB",
            f"{output.cosine:.5f}",
            f"{output.worst_cosine:.5f}",
            "" if same is None else f"{100 * same:.2f} %",
        )
    return table
