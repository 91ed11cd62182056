"""Reading a list, top-level or below a parent record, or one window of it after the other, to its proven end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from integrations_pipeline.client import Page
from integrations_pipeline.client.cursor import format_cursor
from integrations_pipeline.spec.errors import ContractError, CursorExpired, IntegrationError
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.watermarks import watermark_to_json
from integrations_pipeline.store.parents import Parent
from integrations_pipeline.store.state import StateChange
from integrations_pipeline.sync.listing import (
    Listing,
    highest,
    next_window,
    start_of,
    window_end,
)
from integrations_pipeline.sync.pull import Pull, Ties
from integrations_pipeline.sync.reading import Reading


def read_windows(
    pull: Pull, listing: Listing, probe: dict[str, Any] | None = None, below: Parent | None = None
) -> None:
    """Reads one list; or one per window of the cursor's `step` up to the present, or of the source's `max_records`."""
    pull.ties = Ties.from_json(listing.ties)
    while not listing.done:
        read_list(pull, listing, probe, below)
        probe = None


def move_on(pull: Pull, listing: Listing, last: Page) -> None:
    """A list has ended: to what the source's own window cut off, to the cursor's next step, or all is done."""
    listing.position = None
    if last.window_full:
        if listing.high is None or listing.high == listing.since:
            raise ContractError(
                f"the source ended its list at max_records, where all records bear the cursor value {listing.since}",
                next="ask the provider for a list without that limit, and name it under `full`",
            )
        listing.since = listing.high
        return
    begin = next_window(listing, pull.clock.now())
    if begin is None:
        listing.done = True
    else:
        listing.since, listing.window_end = begin, window_end(pull.stream, begin)


def read_list(pull: Pull, listing: Listing, probe: dict[str, Any] | None, below: Parent | None) -> None:
    """Reads one list to its end and commits its pages. An expired bookmark starts it again, and an expired watermark
    reads everything; each once."""
    started_again = False
    while True:
        try:
            return read_pages(pull, listing, probe, below)
        except CursorExpired:
            pull.pages, probe = [], None
            if listing.position is None and listing.mode == "incremental":
                read_all(pull, listing, below)
            elif listing.position is not None and not started_again:
                started_again, listing.position = True, None
                if below is None and listing.mode == "full" and listing.since == start_of(pull.stream):
                    pull.begin_refresh(None)  # what was seen may be gone by now: the whole list is looked at again
            else:
                raise


def read_all(pull: Pull, listing: Listing, below: Parent | None) -> None:
    """The watermark itself is too old: from now on this is a full refresh, of one parent's list where it is below."""
    begin = start_of(pull.stream)
    listing.mode, listing.since, listing.window_end = "full", begin, window_end(pull.stream, begin)
    listing.high = listing.floor = None
    if below is None:
        pull.begin_refresh(None)
        pull.start_run("full")


def ask(pull: Pull, listing: Listing, probe: dict[str, Any] | None, below: Parent | None) -> Iterator[Page]:
    """The pages of the list from where it stands."""
    return pull.pages_from(
        full=listing.mode == "full",
        position=listing.position,
        since=sendable(pull.stream, listing.since),
        until=sendable(pull.stream, listing.window_end),
        parent=below.payload if below else None,
        probe=probe_for(probe, listing),
    )


def read_pages(pull: Pull, listing: Listing, probe: dict[str, Any] | None, below: Parent | None) -> None:
    from_start = listing.position is None
    begun = pull.ahead.pop(below.external_id, None) if below else None
    last: Page | None = None
    number = 0
    try:
        with begun or Reading(ask(pull, listing, probe, below)) as reading:
            for page in reading:
                number += 1
                last, opens = page, listing.started_at is None
                note_page(pull.stream, listing, page)
                if page.not_modified:
                    listing.done = True
                    return
                pull.take(page)
                if opens:
                    listing.first = pull.boundary.highest_cursor(page.rows, page.read_at)
                if page.next is not None and pull.due:
                    commit_on_the_way(pull, listing, page, below)
    except IntegrationError:
        if pull.pages and last is not None and (last.next is not None or last.circles):
            commit_on_the_way(pull, listing, last, below)  # what was read before the source failed is kept
        raise
    if last is not None:
        commit_end(pull, listing, last, below, alone=from_start and number == 1)


def sendable(stream: Stream, watermark: Any) -> Any:
    """A typed watermark in the form the source is sent; an opaque one as it is."""
    if watermark is None or stream.cursor is None or stream.cursor.read is not None:
        return watermark
    return format_cursor(stream, watermark)


def probe_for(probe: dict[str, Any] | None, listing: Listing) -> dict[str, Any] | None:
    """The stored validator, where it was given for the very same list."""
    if not probe or probe.get("since") != watermark_to_json(listing.since):
        return None
    return probe.get("validator")


def note_page(stream: Stream, listing: Listing, page: Page) -> None:
    """What a page tells of the list as a whole: when it was begun, and the source's own mark."""
    if listing.started_at is None:
        listing.started_at = page.read_at.replace(microsecond=0)
    if stream.cursor and stream.cursor.read is not None and page.cursor_value is not None:
        listing.high = page.cursor_value


def check_pages(pull: Pull, listing: Listing, below: Parent | None) -> None:
    """The waiting pages through the boundary, their highest cursor value noted (opaque marks come from the page)."""
    high = pull.check(below.external_id if below else None)
    listing.ties = pull.ties.as_json() if pull.desc else None
    if pull.stream.cursor and pull.stream.cursor.read is None:
        listing.saw(high)


def commit_on_the_way(pull: Pull, listing: Listing, page: Page, below: Parent | None) -> None:
    """A chunk in the middle of a list: the bookmark is the page after it."""
    check_pages(pull, listing, below)
    listing.position = page.next
    if below is not None:
        commit_below(pull, listing, below)
        return
    change = StateChange(bookmark=listing.as_bookmark(), refresh_id=pull.refresh_id)
    cursor = pull.stream.cursor
    if cursor and cursor.order == "asc" and listing.mode == "incremental" and listing.high is not None:
        change = replace(change, watermark=watermark_to_json(highest(listing.high, listing.floor)))
    pull.submit(change)


def commit_end(pull: Pull, listing: Listing, last: Page, below: Parent | None, *, alone: bool) -> None:
    """The last chunk of a list. It is done unless the run goes on with another window; then that one is bookmarked.

    A validator is kept only of a list of one page: a later page may change while the first one stays as it is.
    Short lists below many parents are committed together.
    """
    check_pages(pull, listing, below)
    validator = last.validator if alone and not last.window_full else None
    probe = {"since": watermark_to_json(listing.since), "validator": validator} if validator else None
    move_on(pull, listing, last)
    if below is None:
        pull.submit(StateChange(bookmark=listing.as_bookmark(), refresh_id=pull.refresh_id, probe=probe))
    elif pull.due:
        commit_below(pull, listing, below)


def commit_below(pull: Pull, listing: Listing, below: Parent) -> None:
    """What was gathered of this parent and those before it, with the place in its list."""
    pull.gathered.states.append(StateChange(below.external_id, bookmark=listing.as_bookmark()))
    submit_states(pull)


def submit_states(pull: Pull) -> None:
    """Commits what was gathered; of several states of one parent, and of the round, only the last counts."""
    pull.gathered.states = list({state.parent_key: state for state in pull.gathered.states}.values())
    if pull.gathered.states:
        pull.submit()
