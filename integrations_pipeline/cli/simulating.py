"""`integrations simulate`: the fake outside systems, until Ctrl-C."""

from __future__ import annotations
