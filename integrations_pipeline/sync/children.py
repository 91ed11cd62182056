"""Child streams: one list per parent record, each with a state of its own, in one round over the parents.

The round's mark lies in the stream's own state: ``{"mode", "after", "mark", "began", "asked"}`` while under way
(``after`` is the last parent read to its end), ``{"mark"}`` when done, from where `parents: changed` looks for changed
ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from integrations_pipeline.client.records import extract
from integrations_pipeline.spec.errors import IntegrationError, NotFound, SourceConfigError
from integrations_pipeline.spec.limits import CHUNK_RECORDS
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.watermarks import watermark_to_json
from integrations_pipeline.store.parents import Parent, high_mark, parents
from integrations_pipeline.store.state import StateChange, StreamState
from integrations_pipeline.sync.declared import declaration, notice_edits
from integrations_pipeline.sync.deletions import feed_of, read_deletions, refreshed
from integrations_pipeline.sync.listing import Listing, asked_of, final_watermark, plan, shown_past
from integrations_pipeline.sync.lists import ask, read_windows, submit_states
from integrations_pipeline.sync.pull import Pull
from integrations_pipeline.sync.reading import Reading


def pull_children(pull: Pull, *, full: bool) -> None:
    """Reads the list of each parent. A crash goes on behind the last parent whose list was committed to its end."""
    state = notice_edits(pull, pull.lease.state())
    round_ = plan_round(pull, state, full=full or pull.rekeyed)
    goes_on = round_ is state.round
    pull.start_run(round_["mode"])
    if not goes_on and read_deletions(pull, state) and round_["mode"] != "full":
        round_ = plan_round(pull, state, full=True)
        pull.start_run(round_["mode"])
    if round_["mode"] == "full":
        pull.begin_refresh(state.refresh_id if goes_on else None)
    pull.whole = round_["mode"] == "full" and not goes_on and feed_of(pull.stream) is None
    pull.gathered.states.append(StateChange(round=round_, refresh_id=pull.refresh_id))
    read = read_inside if pull.stream.parent else read_below
    round_ = read(pull, round_)
    submit_states(pull)
    refuse_if_none_is_known(pull, round_, first="mark" not in (state.round or {}))
    change = refreshed(pull) if round_["mode"] == "full" else StateChange()
    pull.end_refresh(replace(change, round={"mark": round_["began"]}, declared=declaration(pull)))


def plan_round(pull: Pull, state: StreamState, *, full: bool) -> dict[str, Any]:
    """A round under way goes on, unless the lists were edited; a new one is full where it must be: the first, and each
    one without a cursor that reads all parents."""
    saved = state.round or {}
    asked = asked_of(pull.connection, pull.stream)
    if saved.get("asked") == asked and (saved["mode"] == "full" or not full):
        return saved
    whole = full or "mark" not in saved or saved.get("mode") == "full"
    if not whole and pull.stream.cursor is None and pull.stream.parents == "all" and not pull.stream.parent:
        whole = True
    skips = not whole and (pull.stream.parents == "changed" or pull.stream.parent is not None)
    began = high_mark(pull.lease)
    mode = "full" if whole else "incremental"
    return {"mode": mode, "after": "", "mark": saved.get("mark") if skips else None, "began": began, "asked": asked}


def refuse_if_none_is_known(pull: Pull, round_: dict[str, Any], *, first: bool) -> None:
    """One parent that vanished has no list. Where in the first round all of several have none, the path is wrong."""
    unknown = round_.get("unknown", 0)
    if not first or unknown < 2 or unknown < round_.get("read", 0):
        return
    pull.committer.settle()
    pull.lease.apply_state(StateChange(round=None, refresh_id=None))
    raise SourceConfigError(
        f"the source answered 404 for the lists below all {unknown} records of {pull.stream.parent_stream}",
        where=f"{pull.connection.name}/{pull.stream_name} {pull.stream.request}",
        next="compare the path with the provider's documentation; where 404 means that a list is empty, declare"
        " {status: 404, is: end_of_list} under `errors`",
    )


def parents_of(pull: Pull, round_: dict[str, Any]) -> Iterator[list[Parent]]:
    """Batches of the parents still to be read; of an embedded stream the deleted ones too: their rows go with them."""
    return parents(
        pull.lease,
        pull.stream.parent_stream or "",
        after=round_["after"],
        mark=round_["mark"],
        with_deleted=pull.stream.parent is not None,
    )


def read_inside(pull: Pull, round_: dict[str, Any]) -> dict[str, Any]:
    """Rows that lie in their parent's record and are replaced with it; a deleted parent holds none. Where one came
    without a key, those before it stay: it may be one of them."""
    unsure = 0
    for batch in parents_of(pull, round_):
        rows: list[Any] = []
        keys: list[str] = []
        for parent in batch:
            inside = inside_of(pull.stream, parent)
            rows += inside
            keys += [parent.external_id] * len(inside)
        unnamed = pull.check_inside(rows, keys, pull.started_at)
        unsure += len(unnamed)
        replaced = [parent.external_id for parent in batch if parent.external_id not in unnamed]
        pull.gathered.replaced_parents += replaced
        round_ = done_until(pull, round_, batch[-1])
    if unsure:
        pull.result.remark(
            f"{unsure} records of {pull.stream.parent_stream} hold rows whose key can't be read: what else those lack "
            "was kept. Look at `integrations quarantine list`; what is no record, name under `skip`"
        )
    return round_


def inside_of(stream: Stream, parent: Parent) -> list[Any]:
    """The rows in a parent's record; none where it is deleted, or says null where they would be."""
    if parent.deleted or stream.rows.path.get(parent.payload) in (None, MISSING):
        return []
    return extract(stream.rows, parent.payload, parent=parent.payload)


def done_until(pull: Pull, round_: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """The round with its parents read up to this one; committed where enough has been gathered."""
    round_ = {**round_, "after": parent.external_id}
    pull.gathered.states.append(StateChange(round=round_, refresh_id=pull.refresh_id))
    if pull.due:
        submit_states(pull)
    return round_


def read_below(pull: Pull, round_: dict[str, Any]) -> dict[str, Any]:
    """The lists of the parents in their order; as many as `concurrency` says are read at once."""
    waiting: deque[tuple[Parent, Listing]] = deque()
    for parent in (parent for batch in parents_of(pull, round_) for parent in batch):
        waiting.append((parent, begin_list(pull, parent, full=round_["mode"] == "full")))
        if len(waiting) == pull.connection.api.concurrency:
            round_ = end_list(pull, round_, *waiting.popleft())
    while waiting:
        round_ = end_list(pull, round_, *waiting.popleft())
    return round_


def begin_list(pull: Pull, parent: Parent, *, full: bool) -> Listing:
    """What is to be read below a parent, from its own bookmark; the reading begins."""
    state = StreamState(
        parent_key=parent.external_id, bookmark=parent.bookmark, watermark=parent.watermark, highest=parent.highest
    )
    asked = asked_of(pull.connection, pull.stream, pull.refresh_id)
    listing = plan(pull.stream, state, full=full, now=pull.clock.now(), asked=asked)
    workers = pull.connection.api.concurrency
    if workers > 1 and not listing.done:
        pages = ask(pull, listing, None, parent)
        pull.ahead[parent.external_id] = Reading(pages, CHUNK_RECORDS // workers).start()
    return listing


def end_list(pull: Pull, round_: dict[str, Any], parent: Parent, listing: Listing) -> dict[str, Any]:
    """Reads a parent's list to its end. A parent the source no longer knows has no list."""
    round_ = {**round_, "read": round_.get("read", 0) + 1}
    try:
        read_windows(pull, listing, below=parent)
    except NotFound:
        pull.pages = []
        round_["unknown"] = round_.get("unknown", 0) + 1
    except IntegrationError:
        submit_states(pull)  # the parents before this one
        raise
    watermark = final_watermark(pull.stream, listing)
    past = shown_past(pull.stream, listing, watermark)
    pull.gathered.states.append(
        StateChange(parent.external_id, bookmark=None, watermark=watermark_to_json(watermark), highest=past)
    )
    return done_until(pull, round_, parent)
