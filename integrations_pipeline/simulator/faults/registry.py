"""What each entry of the vocabulary does, by what it acts on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from integrations_pipeline.simulator.faults import answers, changes, pages, replies, rows, webhooks, writes
from integrations_pipeline.simulator.faults.board import Board

INSTEAD: dict[str, answers.Instead] = {
    "STATUS [HINT VALUE]": answers.status,
    "limit RATE": answers.limit,
    "redirect [WHERE]": answers.redirect,
    "html": answers.html,
    "empty body": answers.empty_body,
    "expire cursor [STATUS]": answers.expire_cursor,
}
CONCERNS: dict[str, Callable[[answers.Asking], bool]] = {
    "redirect [WHERE]": answers.is_not_moved,
    "expire cursor [STATUS]": answers.has_position,
}
"""Those that only some requests can meet; others are no opportunity for them."""

REPLIES: dict[str, replies.Spoil] = {
    "reset": replies.delivered("reset"),
    "hang up": replies.delivered("hang up"),
    "half close": replies.delivered("half close"),
    "truncate [CUT]": replies.truncate,
    "drip [DURATION]": replies.delivered("drip"),
    "slow DURATION": replies.slow,
    "down DURATION": replies.delivered("down"),
    "huge [SIZE]": replies.delivered("huge"),
    "bomb [SIZE]": replies.delivered("bomb"),
    "garble": replies.garble,
    "content type VALUE": replies.content_type,
    "charset CHARSET": replies.charset,
    "bom": replies.bom,
}
CHANGES: dict[str, changes.Change] = {
    "insert while reading [COUNT]": changes.insert,
    "update while reading [COUNT]": changes.update,
    "delete while reading [COUNT]": changes.delete,
    "late row DURATION": changes.late_row,
    "future row DURATION": changes.future_row,
}
CUTS: dict[str, pages.Cutting] = {
    "smaller pages COUNT": pages.smaller_pages,
    "empty page COUNT": pages.empty_page,
    "overlap COUNT": pages.overlap,
    "window COUNT": pages.window,
    "past end ANSWER": pages.past_end,
}
PAGES: dict[str, pages.Saying] = {
    "repeat token": pages.repeat_token,
    "cycle tokens COUNT": pages.cycle_tokens,
    "last page names itself": pages.last_page_names_itself,
    "endless tokens": pages.endless_tokens,
    "lie total COUNT": pages.lie_total,
    "lie pages COUNT": pages.lie_pages,
    "lie more YES": pages.lie_more,
    "relative links": pages.relative_links,
    "next elsewhere": pages.next_elsewhere,
    "shuffle": pages.shuffle,
}
ROWS: dict[str, rows.Spoil] = {
    "repeat row": rows.repeat_row,
    "bad row [KIND] [in PATH]": rows.bad_row,
    "rename field PATH NAME": rows.rename_field,
    "drop field PATH": rows.drop_field,
    "retype field PATH": rows.retype_field,
    "new field NAME": rows.new_field,
    "new value PATH": rows.new_value,
}
WEBHOOKS: dict[str, webhooks.Disturb] = {
    "lose webhook": webhooks.lose,
    "double webhook": webhooks.double,
    "reorder webhooks": webhooks.reorder,
    "delay webhook DURATION": webhooks.delay,
    "tamper webhook": webhooks.tamper,
}
WRITES: dict[str, writes.Disturb] = {
    "refuse write [STATUS] [HINT VALUE]": writes.refuse,
    "lose answer [LOSS]": writes.lose_answer,
    "ignore keys": writes.ignore_keys,
    "read lag DURATION": writes.read_lag,
    "change before write": writes.change_before,
    "normalise FORM": writes.normalise,
    "ignore field PATH": writes.ignore_field,
    "shuffle results": writes.shuffle_results,
}
ITEMS: dict[str, writes.Single] = {
    "fail item [STATUS]": writes.fail_item,
    "omit result": writes.omit_result,
}


def spoilt_row(board: Board, spoiling: rows.Spoiling, stream: str, ordinal: int, row: rows.Row) -> Iterator[Any]:
    """What stands in the list for a record: usually one thing."""
    found, times = row, 1
    for switched in board.of("row", stream):
        if isinstance(found, dict) and board.strikes_at(switched, ordinal):
            times += switched.fault.name == "repeat row"
            changed = ROWS[switched.fault.name](spoiling, found, switched)
            found = found if changed is None else changed
    for _ in range(times):
        yield dict(found) if isinstance(found, dict) else found
