"""`setup-emulation`: fetch what checking other instruction sets needs."""

from __future__ import annotations

from exporter.cli.answer import Answer, listing
from exporter.cli.command import command


@command()
def setup_emulation() -> Answer:
    """Fetch what `--isa` needs to emulate other CPUs: QEMU and a Python for ARM64.

    Everything goes into the user's cache; nothing is installed into the system. It takes apt-get
    (Debian, Ubuntu; no root), pip, and a download of 60 to 120 MB.
    """
    from exporter.emulation.setup import set_up_emulation

    return listing(
        [
            {
                "component": component.name,
                "version": component.version,
                "folder": component.path,
                "fetched": component.fetched,
            }
            for component in set_up_emulation()
        ]
    )
