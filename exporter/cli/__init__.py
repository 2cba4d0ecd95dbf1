"""The command line: options -> config -> one call of the library -> print -> exit code."""

from __future__ import annotations

from exporter.cli.app import app, main

__all__ = ["app", "main"]
