"""`/mapping/<connection>/<stream>`: a stream's mapping edited, tried on the stored records, and saved into its file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from integrations_pipeline.client.redaction import Redactor, redactor
from integrations_pipeline.gateway.pages.asked import Asked, button, notice, page, see_other
from integrations_pipeline.gateway.pages.elements import Html, el, joined, link, pill, table
from integrations_pipeline.gateway.pages.story import path_of
from integrations_pipeline.spec import editing
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.limits import PREVIEW_RECORDS
from integrations_pipeline.spec.loading import load_named, yaml_files
from integrations_pipeline.spec.merging import merge
from integrations_pipeline.spec.yaml_text import parse_document, to_yaml
from integrations_pipeline.store.planned import Sample
from integrations_pipeline.store.stored import live_records
from integrations_pipeline.sync.previewing import MappingPreview, preview_stream
from integrations_pipeline.sync.samples import masked, plain, sample

PATH = "/mapping/{connection}/{stream}"


@dataclass(frozen=True)
class Edited:
    """A stream's mapping. ``text`` is the connection's file; ``base`` the connector's, where it maps the stream too:
    what differs from that is written over it, into the connection's file."""

    connection: Connection
    stream: str
    text: str
    base: str | None

    @property
    def path(self) -> tuple[str, ...]:
        return "streams", self.stream, "map"

    @property
    def own(self) -> str | None:
        """What the connection's file itself says, with its comments."""
        return editing.block_text(self.text, self.path)

    @property
    def whole(self) -> bool:
        """Whether the whole mapping is edited, the connector's with what the file says over it. Where the file's part
        would lose comments or its brackets by that, that part is edited as it stands."""
        span = editing.spans(self.text).get(self.path)
        plain = span is None or not (span.inside or "#" in (self.own or "") or self.unmapped)
        return self.base is not None and plain

    @property
    def unmapped(self) -> bool:
        return self.connection.streams[self.stream].map is None

    @property
    def block(self) -> str:
        """The mapping as YAML, with its comments; empty where there is none."""
        if self.base is not None and self.own is None:
            return editing.block_text(self.base, self.path) or ""
        return self.effective if self.whole else self.own or ""

    @property
    def effective(self) -> str:
        """The mapping with what the file says over the connector's."""
        return to_yaml(merge(self.of_connector, editing.data_of(self.own or "{}"), self.path))

    @property
    def of_connector(self) -> Any:
        return editing.value_at(parse_document(self.base or "", "").data, self.path)

    def with_block(self, block: str) -> str:
        """The file's text with another mapping. Raises ConfigError."""
        if not self.whole:
            return editing.edited(self.text, self.path, block)
        over = editing.laid_over(self.of_connector, editing.data_of(block), self.path)
        if not over and self.own is None:
            return self.text
        return editing.edited(self.text, self.path, to_yaml(over))


def opened(asked: Asked) -> Edited:
    """Raises ConfigError where there is no such connection or stream."""
    named, home = asked.http.path_params, asked.doors.home
    connection, _ = load_named(named["connection"], home)
    if named["stream"] not in connection.streams or connection.file is None:
        raise ConfigError(f"connection {connection.name} has no stream {named['stream']}", next="see the status page")
    text, path = editing.read(connection.file), ("streams", named["stream"], "map")
    base = connector_text(parse_document(text, "").data.get("uses"), home)
    mapped = base is not None and path in editing.spans(base)
    return Edited(connection, named["stream"], text, base if mapped else None)


def connector_text(name: object, home: Home) -> str | None:
    """The file of a connector; None where the connection uses none."""
    files = (file for folder in home.connectors for file in yaml_files(folder) if file.stem == name)
    return next((editing.read(file) for file in files), None)


def show(asked: Asked) -> Response:
    edited = opened(asked)
    saved = notice("good", "Saved. The next run shapes what is stored with it.") if asked.given("saved") else None
    return shown(asked, edited, edited.block, saved)


def shown(
    asked: Asked, edited: Edited, block: str, said: Html | None, results: Html | None = None, status: int = 200
) -> Response:
    file = edited.connection.file
    assert file is not None
    place = f"connections/{file.name}"
    save = button(f"Save to {place}", "save", name="do", value="save") if results is not None else None
    form = asked.form_to(
        asked.http.url.path,
        el("label", "The stream's map, in YAML", for_="block"),
        el("textarea", "\n" + block, id="block", name="block", rows=max(10, min(30, block.count("\n") + 2)),
           spellcheck="false", autocapitalize="off", aria_describedby="where"),
        el("p", origin(edited, place), id="where", class_="faint"),
        el("input", type="hidden", name="known", value=editing.digest(edited.text)),
        el("p", button("Preview", name="do", value="preview"), " ", save),
    )  # fmt: skip
    title = f"Mapping of {edited.connection.name}/{edited.stream}"
    merged = None
    if edited.base is not None and not edited.whole and not edited.unmapped:
        merged = [el("h2", "With the connector's"), el("pre", edited.effective)]
    beside = el("div", el("h2", "A stored record"), el("pre", example(asked, edited)), merged, class_="beside")
    return page(asked, title, said, el("div", el("div", form), beside, class_="columns"), results, status=status)


def origin(edited: Edited, place: str) -> str:
    if edited.base is None:
        return f"From {place}."
    if not edited.whole:
        return f"From {place}, over the connector's: keys replace its keys, null takes one away."
    over = "" if edited.own is None else f", with what {place} says over it"
    return f"From the connector{over}; what you change is written over it, in {place}."


def example(asked: Asked, edited: Edited) -> str:
    """One raw record, so that its paths can be read off."""
    with asked.store.borrow() as session:
        for _, text in live_records(session, edited.connection.name, edited.stream, 1):
            return sample(text, redactor(edited.connection.name, asked.doors.home))
    return "none is stored yet: sync the stream first"


def submit(asked: Asked) -> Response:
    """Previews or saves; a text that is wrong is shown again with why."""
    edited, block = opened(asked), asked.form.get("block", "")
    assert edited.connection.file is not None
    try:
        if asked.form.get("known") != editing.digest(edited.text):
            raise ConfigError("the file was changed meanwhile", next="look at it again: reload the page")
        text = edited.with_block(block)
        after = editing.as_loaded(text, edited.connection.file, asked.doors.home)
        if asked.form.get("do") == "save":
            editing.save(text, edited.connection.file, asked.doors.home, asked.form.get("known"))
            asked.doors.refresh()
            return see_other(f"{asked.http.url.path}?saved=1")
        results = previewed(asked, edited, after, text)
    except ConfigError as error:
        wrong = notice("bad", error.what, el("br"), f"Next: {error.next}.")
        return shown(asked, edited, block, wrong, status=409)
    return shown(asked, edited, block, None, results)


def previewed(asked: Asked, edited: Edited, after: Connection, text: str) -> Html:
    name, stream = edited.connection.name, edited.stream
    if after.streams[stream].map is None:
        raise ConfigError("a map with `to` and `fields` was expected", next="correct the text")
    found = preview_stream(after, stream, asked.store, asked.doors.kinds, PREVIEW_RECORDS)
    knows = redactor(name, asked.doors.home)
    rows = (
        [link(path_of(name, stream, str(one.id)), one.id), verdict(one), differences(knows, one)]
        for one in found.samples
    )
    listed = table("Records that change", ("record", "would", "before → after"), rows) if found.samples else None
    lines = list(difflib.unified_diff(edited.text.splitlines(), text.splitlines(), "before", "after", "", "", 2, ""))
    file = [el("h2", "The file"), el("pre", (diffed(line) for line in lines[2:]), class_="diff")] if lines else None
    return joined(el("h2", "Preview"), counts(found), listed, file)


def counts(found: MappingPreview) -> Html:
    most = found.rows >= PREVIEW_RECORDS
    looked_at = f"Of the first {found.rows:,} records" if most else f"Of {found.rows:,} stored records"
    parts = [
        pill("warn" if found.changed else "good", f"{found.changed:,} would change"),
        pill("bad" if found.fails else "good", f"{found.fails:,} would fail"),
        pill("good", f"{found.heals:,} would come in") if found.heals else None,
    ]
    fields = ", ".join(f"{name} in {count:,}" for name, count in found.fields.most_common())
    return el("p", looked_at, ": ", ((part, " ") for part in parts if part), el("br"), fields or "no field changes",
              role="status")  # fmt: skip


VERDICTS = {
    "changed": ("warn", "change"),
    "fails": ("bad", "fail"),
    "heals": ("good", "come in"),
    "new": ("idle", "be mapped first"),
}


def verdict(one: Sample) -> Html:
    return pill(*VERDICTS[one.sort])


def differences(knows: Redactor, one: Sample) -> Html:
    """The fields of a sample, masked."""
    before = one.before or {}
    changes = (
        el("li", el("strong", name), ": ", el("del", value(knows, name, before.get(name))), " → ",
           el("ins", value(knows, name, now)))
        for name, now in (one.after or {}).items()
    )  # fmt: skip
    why = el("li", knows.text(one.reason)) if one.reason else None
    return el("ul", why, changes, class_="notes")


def value(knows: Redactor, name: str, given: Any) -> str:
    return "empty" if given is None else plain(masked(knows.document(given), name))


def diffed(line: str) -> list[Any]:
    name = {"+": "ins", "-": "del"}.get(line[:1])
    return [el(name, line) if name else line, "\n"]
