"""One sync by dlt's REST API source into DuckDB, as its documentation configures it. Reads a job, prints a result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dlt
from dlt.sources.rest_api import rest_api_source

PAGINATORS: dict[str, Any] = {
    "cursor": lambda page: {"type": "cursor", "cursor_path": page["read"], "cursor_param": page["send"]},
    "offset": lambda page: {
        "type": "offset",
        "limit": page["size"],
        "offset_param": page["send"],
        "limit_param": page["limit"],
        "total_path": page.get("total"),
    },
    "link_body": lambda page: {"type": "json_link", "next_url_path": page["read"]},
}


def source(job: dict[str, Any]) -> Any:
    endpoint: dict[str, Any] = {"path": job["path"].lstrip("/"), "data_selector": job["records"]}
    if job.get("cursor_send"):
        endpoint["incremental"] = {
            "cursor_path": job["cursor_field"],
            "start_param": job["cursor_send"],
            "initial_value": job["start"],
        }
    return rest_api_source(
        {
            "client": {
                "base_url": job["url"] + "/",
                "auth": {"type": "bearer", "token": job["token"]},
                "paginator": PAGINATORS[job["pagination"]["type"]](job["pagination"]),
            },
            "resources": [
                {
                    "name": "things",
                    "primary_key": job["primary_key"],
                    "write_disposition": "merge",
                    "endpoint": endpoint,
                }
            ],
        }
    )


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(job["folder"])
    place = dlt.destinations.duckdb(str(folder / "held.duckdb"))
    pipeline = dlt.pipeline("compared", destination=place, dataset_name="landed", pipelines_dir=str(folder / "dlt"))
    told = ""
    try:
        pipeline.run(source(job))
    except Exception as error:  # noqa: BLE001 - whatever it raises is what its user is told
        told = f"{type(error).__name__}: {error}"
    rows: dict[str, Any] = {}
    try:
        with pipeline.sql_client() as client, client.execute_query("SELECT * FROM things") as cursor:
            names = [column[0] for column in cursor.description]
            for values in cursor.fetchall():
                row = dict(zip(names, values, strict=True))
                rows[str(row[job["primary_key"]])] = {name: str(row.get(name)) for name in job["compared"]}
    except Exception as error:  # noqa: BLE001 - no table where nothing was loaded
        told = told or f"{type(error).__name__}: {error}"
    print(json.dumps({"succeeded": not told, "told": told, "rows": rows}))


if __name__ == "__main__":
    main()
