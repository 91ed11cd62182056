"""The whole path, as `integrations sync` runs it: fetch, parse, check, land, map, upsert, with every promise kept.

`python whole.py CONNECTION` with INTEGRATIONS_HOME and INTEGRATIONS_DATABASE_URL set; prints one JSON line.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path


def peak_mb() -> float:
    """The most memory this process ever held; Linux's own figure leaves out what its parent held before."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        if found:
            return int(found[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / (1024 if sys.platform == "darwin" else 1)


def main() -> None:
    begun = time.perf_counter()
    import pandas  # what the path imports while the first page is on its way is timed apart from it
    import pandera.pandas as pa

    pa.DataFrameSchema({}).validate(pandas.DataFrame())  # pandera's first check imports its backends, a second of CPU

    from integrations_pipeline.cli.opening import opened
    from integrations_pipeline.sync.run import sync

    imported = time.perf_counter()
    with opened(sys.argv[1]) as at:
        opened_at = time.perf_counter()
        result = sync(at.connection, at.client, at.store, at.kinds).as_dict()
        ended = time.perf_counter()
    print(
        json.dumps(
            {
                "import_seconds": imported - begun,
                "open_seconds": opened_at - imported,
                "seconds": ended - opened_at,
                "peak_mb": peak_mb(),
                "streams": result["streams"],
            }
        )
    )


if __name__ == "__main__":
    main()
