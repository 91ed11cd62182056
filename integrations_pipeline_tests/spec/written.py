"""A home written to disk for a test, and what the loader says about it."""

from __future__ import annotations

from pathlib import Path

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection

EXAMPLES = Path(__file__).parent / "grammar_examples"

SHOP = """\
connection: shop
api:
  url: https://api.example.com/v1
  pagination: {type: single_page}
streams:
  orders:
    request: GET /orders
    records: data
    primary_key: id
"""
CUSTOMER = """\
kind: customer
fields:
  email: {type: string, format: email}
  name: {type: string}
  stage: {type: string}
"""


def write_home(root: Path, **files: str) -> Home:
    """Writes ``connections__shop="…"`` to ``connections/shop.yaml``; a model customer is there already."""
    for name, text in {"models__customer": CUSTOMER, **files}.items():
        path = root.joinpath(*name.split("__")).with_suffix(".yaml")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")
    return Home(root)


def load(root: Path, text: str, **files: str) -> Connection:
    return load_connection("shop", write_home(root, connections__shop=text, **files))


def problems(root: Path, text: str, **files: str) -> list[str]:
    """Everything that is wrong, as ``file:line: path: message``."""
    try:
        load(root, text, **files)
    except ConfigError as error:
        assert [str(one) for one in error.problems] == error.what.splitlines()
        return error.what.splitlines()
    return []
