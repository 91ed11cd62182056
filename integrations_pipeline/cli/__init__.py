"""The terminal: `integrations …`. Each command calls a verb, shows what it did, ends with the contract's exit code."""

from integrations_pipeline.cli.app import main

__all__ = ["main"]
