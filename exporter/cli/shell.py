"""`shell-init`: makes the literal line `export build …` work in an interactive shell."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from exporter.cli.shell_functions import shell_function


def shell_init(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(help="The shell that reads the output.")
    ],
) -> None:
    """Print a function that lets a line such as `export build --target cpu-int8` reach us.

    Every other use of export stays the shell's own. At the end of ~/.bashrc or ~/.zshrc:

        eval "$(exporter shell-init bash)"

    In ~/.config/fish/config.fish:

        exporter shell-init fish | source
    """
    from exporter.cli.app import app

    names = tuple(info.name for info in app.registered_commands if info.name)
    sys.stdout.write(shell_function(shell, sys.executable, names))
