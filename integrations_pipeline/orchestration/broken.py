"""A broken file in the UI: an asset that says what is wrong and where, beside those that work."""

import re

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    asset,
)

from integrations_pipeline.orchestration.reporting import failure
from integrations_pipeline.spec.errors import ConfigError

GROUP = "broken_files"


def broken_asset(file: str, error: ConfigError) -> AssetsDefinition:
    """Named like the file; its description lists every problem. Run, it fails with the same words."""
    key = AssetKey(["broken", re.sub(r"[^A-Za-z0-9_]", "_", file)])

    @asset(
        key=key,
        group_name=GROUP,
        description=described(file, error),
        kinds={"yaml"},
        tags={"broken": ""},
        check_specs=[AssetCheckSpec("file_is_valid", asset=key, description=f"{file} can be read")],
        output_required=False,
    )
    def refused(context: AssetExecutionContext):  # type: ignore[no-untyped-def]
        yield AssetCheckResult(
            asset_key=key,
            check_name="file_is_valid",
            passed=False,
            severity=AssetCheckSeverity.ERROR,
            description=error.what,
        )
        raise failure(error)

    return refused


def described(file: str, error: ConfigError) -> str:
    problems = "\n".join(f"- `{problem}`" for problem in error.problems) or error.what
    steps = "Mend the file, then reload the code location. Its streams are not synced meanwhile; all others are."
    return f"**{file} can't be used**\n\n{problems}\n\n{steps}"
