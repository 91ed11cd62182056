"""What a run says when it is over: numbers to plot, checks, and a failure with who must act."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    Failure,
    FreshnessPolicy,
    MetadataValue,
)

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.personal import masked
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.breaker import BreakerState
from integrations_pipeline.store.profiles import OpenFinding
from integrations_pipeline.store.reports import RejectedRule
from integrations_pipeline.sync.expecting import Verdict, expectations
from integrations_pipeline.sync.result import StreamResult, iso

SAMPLES = 3


def check_specs(key: AssetKey) -> list[AssetCheckSpec]:
    """The checks that a stream's run answers, from what the boundary really found."""
    return [
        AssetCheckSpec(
            "rows_rejected",
            asset=key,
            description="No row of the run was set aside. A warning: the good rows are in, the bad ones in quarantine "
            "with their reasons, and they come in by themselves once the source mends them.",
        ),
        AssetCheckSpec(
            "drift",
            asset=key,
            description="The rows look as they used to: no new or vanished field, no changed type, no new value of a "
            "mapped field. An error where the mapping reads the field, else a warning; it ends when all is as it "
            "was, when the file names it, or when somebody accepts it: `integrations drift accept`.",
        ),
        AssetCheckSpec(
            "counts_balance",
            asset=key,
            blocking=True,
            description="Fetched = created + updated + unchanged + deleted + skipped + quarantined + superseded. "
            "Blocks what comes after: rows that vanish between the source and the table are never a success.",
        ),
    ]


def conflict_specs(key: AssetKey, stream: Stream) -> list[AssetCheckSpec]:
    """Of a stream that is written back."""
    text = "No field waits for a person to decide between ours and theirs: `integrations conflicts list`."
    return [AssetCheckSpec("conflicts_open", asset=key, description=text)] if stream.write is not None else []


def conflicts_open(key: AssetKey, open_fields: int) -> AssetCheckResult:
    """Passed where nobody is to decide anything; the count is plotted."""
    return AssetCheckResult(
        asset_key=key,
        check_name="conflicts_open",
        passed=not open_fields,
        severity=AssetCheckSeverity.WARN,
        description=f"{open_fields:,} fields were changed on both sides: `integrations conflicts list`",
        metadata={"open conflicts": open_fields},
    )


def webhooks(result: StreamResult) -> dict[str, Any]:
    """What the run found of the stream's webhooks; nothing where it judged none."""
    found = result.judged
    if found is None or found.told is None or found.missed is None:
        return {}
    changes = found.told + found.missed
    delay = {} if found.delay_seconds is None else {"webhook delay seconds": round(found.delay_seconds, 3)}
    percent = round(100 * found.missed / max(changes, 1), 2)
    return {"webhooks told": found.told, "webhooks missed": found.missed, "webhook loss %": percent, **delay}


def expectation_specs(key: AssetKey, connection: Connection, stream: str) -> list[AssetCheckSpec]:
    """The checks of `expect`, and those that a stream's own history makes."""
    found = expectations(connection, stream)
    return [AssetCheckSpec(one.name, asset=key, description=one.description) for one in found]


def expectation(key: AssetKey, verdict: Verdict) -> AssetCheckResult:
    """What became of one; its numbers are plotted over time."""
    return AssetCheckResult(
        asset_key=key,
        check_name=verdict.name,
        passed=verdict.passed,
        severity=AssetCheckSeverity.ERROR if verdict.severity == "error" else AssetCheckSeverity.WARN,
        description=verdict.said,
        metadata=dict(verdict.numbers),
    )


def freshness_policy(promised: Iterable[timedelta | None]) -> FreshnessPolicy | None:
    """The tightest of `fresh_within`; None where nothing was promised. Dagster knows no window under a minute."""
    found = min((one for one in promised if one is not None), default=None)
    return None if found is None else FreshnessPolicy.time_window(fail_window=max(found, timedelta(minutes=1)))


def numbers(result: StreamResult, *, mapped: bool) -> dict[str, Any]:
    """The run's counters as metadata; the UI plots each of them over time."""
    shaped = result.shaped.as_dict() if mapped else {}
    return {
        **result.counters.as_dict(),
        "tombstoned": result.counters.tombstoned,
        "healed": result.healed,
        "pages": result.pages,
        "requests": result.requests,
        "waited seconds": round(result.waited_seconds, 3),
        "duration seconds": round(result.duration_seconds, 3),
        "records per second": round(result.counters.fetched / max(result.duration_seconds, 0.001), 1),
        **webhooks(result),
        **{f"canonical {name}": count for name, count in shaped.items()},
    }


def breaker_state(found: BreakerState) -> dict[str, Any]:
    """Whether calls to the source are paused: since when, why, and when it is tried next."""
    if found.since is None:
        return {"breaker": found.state}
    times = {"breaker open since": iso(found.since), "next try": iso(found.next_try)}
    return {"breaker": found.state, **times, "last failure": found.reason, "failed tries in a row": found.failures}


def counts_balance(key: AssetKey, result: StreamResult) -> AssetCheckResult:
    return AssetCheckResult(
        asset_key=key,
        check_name="counts_balance",
        passed=result.counters.balanced,
        severity=AssetCheckSeverity.ERROR,
        metadata=result.counters.as_dict(),
    )


def rows_rejected(key: AssetKey, rules: list[RejectedRule], open_rows: int) -> AssetCheckResult:
    """Passed where this run rejected nothing; else the rules that were broken, the most frequent first."""
    return AssetCheckResult(
        asset_key=key,
        check_name="rows_rejected",
        passed=not rules,
        severity=AssetCheckSeverity.WARN,
        description=f"{open_rows:,} rows of the stream are in quarantine: `integrations quarantine list`",
        metadata={"in quarantine": open_rows, **{label(rule): rule.rows for rule in rules}, **details(rules)},
    )


def drift(key: AssetKey, findings: list[OpenFinding]) -> AssetCheckResult:
    """Passed where nothing differs from what the stream's rows used to be; else what, since when, with samples."""
    errors = [one for one in findings if one.severity == "error"]
    return AssetCheckResult(
        asset_key=key,
        check_name="drift",
        passed=not findings,
        severity=AssetCheckSeverity.ERROR if errors else AssetCheckSeverity.WARN,
        description=f"{len(findings)} findings, {len(errors)} of them in fields that the mapping reads",
        metadata={"findings": len(findings), "errors": len(errors), **drift_table(findings)},
    )


def drift_table(findings: list[OpenFinding]) -> dict[str, Any]:
    if not findings:
        return {}
    rows = ["| id | field | what | severity | rows | such as | since |", "|---|---|---|---|---|---|---|"]
    rows += [
        f"| {one.id} | {cell(one.path)} | {one.kind.replace('_', ' ')} | {one.severity} | {one.rows:,} "
        f"| {cell(', '.join(one.samples))} | {iso(one.first_seen)} |"
        for one in findings
    ]
    return {"what differs": MetadataValue.md("\n".join(rows))}


def label(rule: RejectedRule) -> str:
    return f"{rule.field or 'the row'}: {rule.rule}" + (" (mapping)" if rule.stage == "mapping" else "")


def details(rules: list[RejectedRule]) -> dict[str, Any]:
    """A table for people: what was expected, and the form of what came instead."""
    if not rules:
        return {}
    rows = ["| rows | field | rule | what was wrong | such as |", "|---|---|---|---|---|"]
    rows += [
        f"| {one.rows:,} | {cell(one.field)} | {one.rule} | {cell(hidden(one))} | {cell(', '.join(masks(one)))} |"
        for one in rules
    ]
    return {"what was rejected": MetadataValue.md("\n".join(rows))}


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def masks(rule: RejectedRule) -> list[str]:
    return [f"`{masked(sample)}`" for sample in dict.fromkeys(rule.samples[:SAMPLES]) if sample]


def hidden(rule: RejectedRule) -> str:
    """The message with the samples it quotes masked."""
    message = rule.message
    for sample in filter(None, rule.samples):
        message = message.replace(sample, masked(sample))
    return message


def told(error: IntegrationError) -> dict[str, Any]:
    """What, where, who must act, what next."""
    found = {"error": error.error_class, "what": error.what, "where": error.where or "–", "who": error.who}
    return {**found, "next": error.next, **({"resumes at": iso(error.resume_at)} if error.resume_at else {})}


def failure(error: IntegrationError, counted: dict[str, Any] | None = None) -> Failure:
    """Ends the step. Dagster doesn't try it again: what helps was tried already, by the client."""
    description = f"{error.what}\n\n{error.who}: {error.next}"
    return Failure(description=description, metadata={**told(error), **(counted or {})}, allow_retries=False)
