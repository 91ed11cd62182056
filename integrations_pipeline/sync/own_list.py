"""The pull of a stream that has one list of its own."""

from __future__ import annotations

from dataclasses import replace

from integrations_pipeline.spec.streams import Count
from integrations_pipeline.spec.watermarks import watermark_to_json
from integrations_pipeline.store.state import StateChange
from integrations_pipeline.sync.counting import settled
from integrations_pipeline.sync.declared import declaration, notice_edits
from integrations_pipeline.sync.deletions import feed_of, read_deletions, refreshed
from integrations_pipeline.sync.listing import asked_of, final_watermark, plan, shown_past
from integrations_pipeline.sync.lists import read_windows
from integrations_pipeline.sync.pull import Pull


def pull_list(pull: Pull, *, full: bool) -> None:
    """Reads the list from its bookmark to its end; then tombstones and watermark. What was committed stays.

    Deletions are read before the list begins: a list that goes on was begun before them.
    """
    state = notice_edits(pull, pull.lease.state())
    asked = asked_of(pull.connection, pull.stream)
    listing = plan(pull.stream, state, full=full or pull.rekeyed, now=pull.clock.now(), asked=asked)
    pull.start_run(listing.mode)
    if not listing.resumed and read_deletions(pull, state) and listing.mode != "full":
        listing = plan(pull.stream, state, full=True, now=pull.clock.now(), asked=asked)
        pull.start_run(listing.mode)
    if listing.mode == "full":
        pull.begin_refresh(state.refresh_id if listing.resumed else None)
    pull.whole = listing.mode == "full" and not listing.resumed and feed_of(pull.stream) is None
    fresh = not listing.resumed and listing.mode == "incremental"
    read_windows(pull, listing, state.probe if fresh else None)
    watermark = final_watermark(pull.stream, listing)
    change = refreshed(pull) if listing.mode == "full" else StateChange()
    change = replace(change, bookmark=None, watermark=watermark_to_json(watermark), declared=declaration(pull))
    change = replace(change, highest=shown_past(pull.stream, listing, watermark))
    if isinstance(pull.stream.probe, Count):
        change = replace(change, probe=settled(pull.stream, listing, watermark))
    pull.end_refresh(change)
