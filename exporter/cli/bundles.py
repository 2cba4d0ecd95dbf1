"""Bundles as one file: `pack`, `unpack`, `verify-bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.answer import Answer, facts
from exporter.cli.command import command
from exporter.cli.session import FAILED_GATE

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that `build` wrote.")]
PublicKey = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="PUBLIC.pem",
        help="Demand that the owner of this ed25519 key signed it. \\[default: none]",
    ),
]


@command()
def pack(
    bundle: Bundle,
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="File that receives it.")],
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign",
            metavar="KEY.pem",
            help="Sign it with this ed25519 private key. \\[default: none]",
        ),
    ] = None,
) -> Answer:
    """Write a bundle as one zip file: the same bundle, the same bytes."""
    from exporter.packing.pack import pack

    archive = pack(bundle, out, sign)
    return facts(
        {
            "archive": archive.path,
            "bytes": archive.path.stat().st_size,
            "sha256": archive.sha256,
            "signed": sign is not None,
        }
    )


@command()
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="FILE.zip", help="File that `pack` wrote.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to be made.")],
    key: PublicKey = None,
) -> Answer:
    """Check a packed bundle and write it to a folder; nothing is written if anything is wrong."""
    from exporter.packing.pack import unpack

    manifest = unpack(archive, out, key)
    return facts(
        {
            "bundle": out,
            "model": manifest.model,
            "target": manifest.target,
            "files": len(manifest.files) + 1,
        }
    )


@command()
def verify_bundle(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE|FILE.zip", help="A bundle, as a folder or packed.")
    ],
    key: PublicKey = None,
) -> Answer:
    """Check that a bundle's files are as they were made, and who signed them; 1 if they are not."""
    from exporter.packing.pack import verify_bundle

    found = verify_bundle(bundle, key)
    return facts(
        {
            "passed": found.passed,
            "fault": found.fault,
            "model": found.model,
            "target": found.target,
            "model_sha256": found.model_sha256,
            "signed": found.signed,
        },
        code=0 if found.passed else FAILED_GATE,
    )
