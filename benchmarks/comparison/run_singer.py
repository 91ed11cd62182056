"""One sync by a tap of singer-sdk, as its cookiecutter and documentation write one. Reads a job, prints a result.

A tap alone stores nothing: its records are taken as the upserting targets take them, by key, the last one standing;
the last state that it told is given to the next sync.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.pagination import BaseHATEOASPaginator, BaseOffsetPaginator, JSONPathPaginator

JOB = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
PAGE = JOB["pagination"]


class NextLink(BaseHATEOASPaginator):
    def get_next_url(self, response: Any) -> str | None:
        return response.json().get(PAGE["read"])


class Offset(BaseOffsetPaginator):
    def has_more(self, response: Any) -> bool:
        return len(response.json()[JOB["records"]]) == PAGE["size"]


class Things(RESTStream):
    name = "things"
    primary_keys = [JOB["primary_key"]]
    replication_key = JOB["cursor_field"] if JOB.get("cursor_send") else None
    records_jsonpath = f"$.{JOB['records']}[*]"
    url_base = JOB["url"]
    path = JOB["path"]
    schema = th.PropertiesList(
        *(
            th.Property(name, th.CustomType({"type": ["string", "number", "integer", "boolean", "null"]}))
            for name in JOB["compared"]
        ),
        *([th.Property(JOB["cursor_field"], th.DateTimeType)] if JOB.get("cursor_send") else []),
    ).to_dict()

    @property
    def authenticator(self) -> Any:
        return BearerTokenAuthenticator(token=JOB["token"])

    def get_new_paginator(self) -> Any:
        if PAGE["type"] == "cursor":
            return JSONPathPaginator(f"$.{PAGE['read']}")
        if PAGE["type"] == "offset":
            return Offset(start_value=0, page_size=PAGE["size"])
        return NextLink()

    def get_url_params(self, context: Any, next_page_token: Any) -> dict[str, Any]:
        parameters: dict[str, Any] = {}
        if JOB.get("cursor_send"):
            parameters[JOB["cursor_send"]] = self.get_starting_replication_key_value(context)
        if PAGE["type"] == "offset":
            parameters |= {PAGE["limit"]: PAGE["size"], PAGE["send"]: next_page_token or 0}
        elif PAGE["type"] == "cursor" and next_page_token:
            parameters[PAGE["send"]] = next_page_token
        elif next_page_token:
            parameters |= dict(part.split("=", 1) for part in next_page_token.query.split("&"))
        return parameters


class ComparedTap(Tap):
    name = "tap-compared"
    config_jsonschema = th.PropertiesList(th.Property("start_date", th.DateTimeType)).to_dict()

    def discover_streams(self) -> list[Any]:
        return [Things(tap=self)]


def main() -> None:
    folder = Path(JOB["folder"])
    kept, states = folder / "held.json", folder / "state.json"
    rows: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    state = json.loads(states.read_text()) if states.exists() else None
    told, out = "", io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            ComparedTap(config={"start_date": JOB["start"]}, state=state, validate_config=False).sync_all()
    except Exception as error:  # noqa: BLE001 - whatever it raises is what its user is told
        told = f"{type(error).__name__}: {error}"
    for line in out.getvalue().splitlines():
        message = json.loads(line)
        if message["type"] == "RECORD":
            data = message["record"]
            rows[str(data.get(JOB["primary_key"]))] = {name: str(data.get(name)) for name in JOB["compared"]}
        elif message["type"] == "STATE":
            states.write_text(json.dumps(message["value"]))
    kept.write_text(json.dumps(rows))
    print(json.dumps({"succeeded": not told, "told": told, "rows": rows}))


if __name__ == "__main__":
    main()
