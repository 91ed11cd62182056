"""The bare limit: a requests loop, JSON parsed, COPY into one table. Nothing is checked, nothing could be resumed.

`python bare.py SOURCE_URL DATABASE_URL LIBRARY` prints one JSON line. LIBRARY is `json` (what `response.json()` uses,
as anybody would write it) or `orjson` (as fast as Python gets).
"""

from __future__ import annotations

import json
import sys
import time

import orjson
import psycopg
import requests

PARSE = {"json": json.loads, "orjson": orjson.loads}
WRITE = {"json": json.dumps, "orjson": lambda row: orjson.dumps(row).decode()}


def main() -> None:
    source, database, library = sys.argv[1:]
    parse, write = PARSE[library], WRITE[library]
    session = requests.Session()
    session.trust_env = False
    begun = time.perf_counter()
    count, page = 0, 1
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE bare (id text, payload jsonb)")
        with connection.cursor().copy("COPY bare (id, payload) FROM STDIN") as copy:
            while page:
                document = parse(session.get(f"{source}/contacts", params={"page": page}).content)
                for row in document["data"]:
                    copy.write_row((row["id"], write(row)))
                count += len(document["data"])
                page = document["next"]
    print(json.dumps({"seconds": time.perf_counter() - begun, "records": count}))


if __name__ == "__main__":
    main()
