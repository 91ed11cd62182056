"""One sync by airbyte-cdk's declarative source, a manifest as its documentation writes it. Prints a result.

A source alone stores nothing: its records are taken as the deduplicating destinations take them, by key, the last one
standing; the last state that it told is given to the next sync.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from airbyte_cdk.models import AirbyteStateMessageSerializer, ConfiguredAirbyteCatalogSerializer, Type
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource


def reading(name: str, before: str = "") -> str:
    """The template that reads a key of the answer."""
    return "{{ " + before + f"response.get('{name}')" + " }}"


PAGINATORS: dict[str, Any] = {
    "cursor": lambda page: {
        "type": "DefaultPaginator",
        "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": page["send"]},
        "pagination_strategy": {
            "type": "CursorPagination",
            "cursor_value": reading(page["read"]),
            "stop_condition": reading(page["read"], "not "),
        },
    },
    "offset": lambda page: {
        "type": "DefaultPaginator",
        "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": page["send"]},
        "page_size_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": page["limit"]},
        "pagination_strategy": {"type": "OffsetIncrement", "page_size": page["size"]},
    },
    "link_body": lambda page: {
        "type": "DefaultPaginator",
        "page_token_option": {"type": "RequestPath"},
        "pagination_strategy": {
            "type": "CursorPagination",
            "cursor_value": reading(page["read"]),
            "stop_condition": reading(page["read"], "not "),
        },
    },
}


def manifest(job: dict[str, Any]) -> dict[str, Any]:
    stream: dict[str, Any] = {
        "type": "DeclarativeStream",
        "name": "things",
        "primary_key": [job["primary_key"]],
        "schema_loader": {
            "type": "InlineSchemaLoader",
            "schema": {"type": "object", "additionalProperties": True, "properties": {}},
        },
        "retriever": {
            "type": "SimpleRetriever",
            "requester": {
                "type": "HttpRequester",
                "url_base": job["url"],
                "path": job["path"],
                "http_method": "GET",
                "authenticator": {"type": "BearerAuthenticator", "api_token": job["token"]},
            },
            "record_selector": {
                "type": "RecordSelector",
                "extractor": {"type": "DpathExtractor", "field_path": [job["records"]]},
            },
            "paginator": PAGINATORS[job["pagination"]["type"]](job["pagination"]),
        },
    }
    if job.get("cursor_send"):
        stream["incremental_sync"] = {
            "type": "DatetimeBasedCursor",
            "cursor_field": job["cursor_field"],
            "datetime_format": "%Y-%m-%dT%H:%M:%S.%fZ",
            "cursor_datetime_formats": ["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"],
            "start_datetime": {
                "type": "MinMaxDatetime",
                "datetime": job["start"],
                "datetime_format": "%Y-%m-%dT%H:%M:%SZ",
            },
            "start_time_option": {
                "type": "RequestOption",
                "inject_into": "request_parameter",
                "field_name": job["cursor_send"],
            },
        }
    return {
        "type": "DeclarativeSource",
        "version": "6.0.0",
        "check": {"type": "CheckStream", "stream_names": ["things"]},
        "streams": [stream],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }


def catalog(job: dict[str, Any]) -> Any:
    mode = "incremental" if job.get("cursor_send") else "full_refresh"
    modes = ["full_refresh", "incremental"]
    return ConfiguredAirbyteCatalogSerializer.load(
        {
            "streams": [
                {
                    "stream": {"name": "things", "json_schema": {}, "supported_sync_modes": modes},
                    "sync_mode": mode,
                    "destination_sync_mode": "append_dedup",
                    "primary_key": [[job["primary_key"]]],
                }
            ]
        }
    )


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(job["folder"])
    kept, states = folder / "held.json", folder / "state.json"
    rows: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    state = (
        [AirbyteStateMessageSerializer.load(one) for one in json.loads(states.read_text())] if states.exists() else []
    )
    told = ""
    logging.disable(logging.CRITICAL)
    try:
        source = ConcurrentDeclarativeSource(catalog(job), {}, state, source_config=manifest(job))
        for message in source.read(logging.getLogger("airbyte"), {}, catalog(job), state):
            if message.type == Type.RECORD:
                data = message.record.data
                key = str(data.get(job["primary_key"]))
                rows[key] = {name: str(data.get(name)) for name in job["compared"]}
            elif message.type == Type.STATE:
                states.write_text(json.dumps([AirbyteStateMessageSerializer.dump(message.state)], default=str))
    except Exception as error:  # noqa: BLE001 - whatever it raises is what its user is told
        told = f"{type(error).__name__}: {error}"
    kept.write_text(json.dumps(rows))
    print(json.dumps({"succeeded": not told, "told": told, "rows": rows}))


if __name__ == "__main__":
    main()
