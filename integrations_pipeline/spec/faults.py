"""Faults that the simulator can be told to have: ``429 every 7th``, ``truncate gzip 5% on contacts``.

A fault says WHAT, then perhaps WHEN, then perhaps on which stream. ``VOCABULARY`` is the only list of what there is;
the simulator's registry and docs/faults.md are compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from integrations_pipeline.spec.forms import parse_duration, parse_rate, parse_size
from integrations_pipeline.spec.wording import did_you_mean, one_of

Scope = Literal["answer", "reply", "change", "cut", "page", "row", "webhook", "write", "item"]
"""What is counted for WHEN: requests (answer, reply, change), pages (cut, page), records (row), deliveries, requests
that write, or items of a batch."""

BAD_ROWS = (
    "nul", "surrogate", "nan", "infinity", "big_integer", "huge_integer", "wrong_type", "text_boolean", "mixed",
    "zero_date", "far_year", "naive_time", "null_id", "missing_id", "long_id", "duplicate_key", "no_object", "deep",
    "large", "entities", "empty", "null", "missing",
)  # fmt: skip
HINTS = ("retry-after", "date", "reset", "reset-after", "draft", "structured")
LOSSES = ("reset", "timeout", "500", "502", "503", "504")
FORMS = ("lower", "upper", "title", "trim", "number")
CUTS = ("length", "chunked", "gzip", "unframed", "headers")


@dataclass(frozen=True, slots=True)
class Argument:
    """A word in capitals: its form, and how it is read. ``words`` are all there are, where they are counted."""

    pattern: str
    read: Callable[[str], Any] = str
    words: tuple[str, ...] = ()


def listed(*words: str) -> Argument:
    return Argument("|".join(map(re.escape, words)), str, words)


ARGUMENTS: dict[str, Argument] = {
    "STATUS": Argument(r"[2-5]\d\d", int),
    "COUNT": Argument(r"[1-9]\d{0,8}", int),
    "DURATION": Argument(r"\d+(?:\.\d+)?(?:ms|s|m|h|d)", lambda text: parse_duration(text).total_seconds()),
    "SIZE": Argument(r"\d+(?:B|kB|KB|MB|GB)", parse_size),
    "RATE": Argument(r"\d+ per \S+", parse_rate),
    "PATH": Argument(r"\w+(?:\.\w+)*"),
    "NAME": Argument(r"\w+"),
    "VALUE": Argument(r"\S+"),
    "HINT": listed(*HINTS),
    "CUT": listed(*CUTS),
    "KIND": listed(*BAD_ROWS),
    "WHERE": listed("within", "elsewhere", "loop"),
    "ANSWER": listed("404", "400", "last"),
    "CHARSET": listed("latin-1", "utf-16", "unsaid"),
    "YES": listed("yes", "no"),
    "LOSS": listed(*LOSSES),
    "FORM": listed(*FORMS),
}


@dataclass(frozen=True, slots=True)
class Form:
    """One entry of the vocabulary. ``by_default`` is its WHEN where none is given."""

    scope: Scope
    meaning: str
    by_default: str = ""


VOCABULARY: dict[str, Form] = {
    "STATUS [HINT VALUE]": Form("answer", "that status instead of an answer; HINT tells to wait VALUE seconds"),
    "limit RATE": Form("answer", "a limit of the source's own: 429 with Retry-After beyond it"),
    "redirect [WHERE]": Form("answer", "302 to another URL `within` the API, in a `loop`, or `elsewhere` (localhost)"),
    "html": Form("answer", "200 with a page for people"),
    "empty body": Form("answer", "200 with nothing"),
    "expire cursor [STATUS]": Form("answer", "410 (or that status) to a request with a page's position", "once"),
    "reset": Form("reply", "the connection is reset before the answer"),
    "hang up": Form("reply", "the connection ends before the answer"),
    "half close": Form("reply", "a whole answer, then the connection's end without a word: the next request meets it"),
    "truncate [CUT]": Form("reply", "half an answer; CUT says how its end was marked, else one by seed"),
    "drip [DURATION]": Form("reply", "the answer byte by byte, so long (100ms) between two"),
    "slow DURATION": Form("reply", "the answer so much later"),
    "down DURATION": Form("reply", "connections are refused for so long, also those of other connections here", "once"),
    "huge [SIZE]": Form("reply", "an answer of that size (200MB)"),
    "bomb [SIZE]": Form("reply", "an answer packed with gzip that unpacks to that size (200MB)"),
    "garble": Form("reply", "JSON with an error in its middle"),
    "content type VALUE": Form("reply", "JSON that calls itself something else"),
    "charset CHARSET": Form("reply", "text in another charset; `unsaid`: Latin-1 that calls itself UTF-8"),
    "bom": Form("reply", "a byte order mark before the JSON"),
    "insert while reading [COUNT]": Form("change", "so many (1) new records before a page is made"),
    "update while reading [COUNT]": Form("change", "so many (1) records change, and move in a list sorted by change"),
    "delete while reading [COUNT]": Form("change", "so many (1) records go before a page is made"),
    "late row DURATION": Form("change", "a new record whose stamp is so old"),
    "future row DURATION": Form("change", "a new record whose stamp is so far ahead"),
    "smaller pages COUNT": Form("cut", "at most so many records in a page, whatever was asked for"),
    "empty page COUNT": Form("cut", "that page of the list (the first is 1) holds nothing, and the list goes on"),
    "overlap COUNT": Form("cut", "a page begins with the last so many records of the page before"),
    "window COUNT": Form("cut", "400 past so many records of a list"),
    "past end ANSWER": Form("cut", "a page past the end is 404, 400, or the last page again"),
    "repeat token": Form("page", "the next page's token or link is the one this page was asked by"),
    "cycle tokens COUNT": Form("page", "after so many pages the tokens begin again with the second page's"),
    "last page names itself": Form("page", "the last page's token or link leads to that page"),
    "endless tokens": Form("page", "past its end the list goes on with empty pages and fresh tokens"),
    "lie total COUNT": Form("page", "the total that is told is this number"),
    "lie pages COUNT": Form("page", "the number of pages that is told is this one"),
    "lie more YES": Form("page", "that there is more is always, or never, told"),
    "relative links": Form("page", "next links without scheme and host"),
    "next elsewhere": Form("page", "next links to another origin (localhost)"),
    "shuffle": Form("page", "the records of a page in another order"),
    "repeat row": Form("row", "the record stands twice in its page"),
    "bad row [KIND] [in PATH]": Form("row", "a value that is hard to store or wrong; the kind by seed unless named"),
    "rename field PATH NAME": Form("row", "the field has another name"),
    "drop field PATH": Form("row", "the field is missing"),
    "retype field PATH": Form("row", "text becomes a number and all else text"),
    "new field NAME": Form("row", "a field that wasn't there before"),
    "new value PATH": Form("row", "the field holds a word that wasn't there before"),
    "lose webhook": Form("webhook", "the delivery is never sent"),
    "double webhook": Form("webhook", "the delivery is sent twice"),
    "reorder webhooks": Form("webhook", "the delivery is sent after the next one, or a second later"),
    "delay webhook DURATION": Form("webhook", "the delivery is sent so much later; others overtake it"),
    "tamper webhook": Form("webhook", "the body is changed after it was signed"),
    "refuse write [STATUS] [HINT VALUE]": Form("write", "503 (or that status) to a write, and nothing is done"),
    "lose answer [LOSS]": Form("write", "the write is done; then a `reset`, a `timeout`, or that status"),
    "ignore keys": Form("write", "the idempotency key is not looked at: the same request is done again"),
    "read lag DURATION": Form("write", "what was written is seen by readers so much later, as if from a copy"),
    "change before write": Form("write", "just before it, somebody else changes the record that is meant"),
    "normalise FORM": Form("write", "the texts that were written are kept, and answered, in another form"),
    "ignore field PATH": Form("write", "that field keeps its old value, and nothing is said"),
    "shuffle results": Form("write", "the results of a batch in another order"),
    "fail item [STATUS]": Form("item", "422 (or that status) for an item of a batch, and it isn't done"),
    "omit result": Form("item", "an item of a batch is done, and no result names it"),
}

WHEN = {
    "every": re.compile(r"(?:^|\s)every (?P<every>[1-9]\d*)(?:st|nd|rd|th)$"),
    "percent": re.compile(r"(?:^|\s)(?P<percent>\d+(?:\.\d+)?)%$"),
    "after_count": re.compile(r"(?:^|\s)after (?P<after_count>\d+)(?: requests)?$"),
    "after_seconds": re.compile(r"(?:^|\s)after (?P<after_seconds>\d+(?:\.\d+)?(?:ms|s|m|h))$"),
    "for_count": re.compile(r"(?:^|\s)(?:for (?P<for_count>[1-9]\d*)(?: requests)?|once)$"),
    "for_seconds": re.compile(r"(?:^|\s)for (?P<for_seconds>\d+(?:\.\d+)?(?:ms|s|m|h))$"),
    "stream": re.compile(r"(?:^|\s)on (?P<stream>[a-z]\w*)$"),
}
WHEN_WORDS = "every 7th, 5%, after 30, after 10s, for 20 requests, for 30s, once, on STREAM"


@dataclass(frozen=True, slots=True)
class When:
    """All that is given must hold. Counted from the moment the fault is switched on."""

    every: int | None = None
    percent: float | None = None
    after_count: int = 0
    after_seconds: float = 0.0
    for_count: int | None = None
    for_seconds: float | None = None

    def holds(self, index: int, seconds: float, chance: Callable[[], float]) -> bool:
        """Whether it is the turn of the opportunity with this number (from 0), so many seconds after the start.

        ``chance`` gives a number from 0 to 1, the same for the same opportunity.
        """
        index, seconds = index - self.after_count, seconds - self.after_seconds
        return (
            index >= 0
            and seconds >= 0
            and (self.for_count is None or index < self.for_count)
            and (self.for_seconds is None or seconds < self.for_seconds)
            and (self.every is None or (index + 1) % self.every == 0)
            and (self.percent is None or chance() * 100 < self.percent)
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``name`` is its entry in ``VOCABULARY``; ``arguments`` are by their capital names, lower-cased."""

    text: str
    name: str
    arguments: dict[str, Any]
    when: When
    stream: str | None = None

    @property
    def scope(self) -> Scope:
        return VOCABULARY[self.name].scope


@cache
def pattern_of(name: str) -> re.Pattern[str]:
    """An entry of the vocabulary as a regular expression: `[…]` may be left out."""
    parts = re.findall(r"\[[^\]]*\]|\S+", name)
    return re.compile("".join(part_pattern(part, first=not index) for index, part in enumerate(parts)))


def part_pattern(part: str, *, first: bool) -> str:
    if part.startswith("["):
        words = [word_pattern(word) for word in part[1:-1].split()]
        return f"(?: {' '.join(words)})?"
    return word_pattern(part) if first else f" {word_pattern(part)}"


def word_pattern(word: str) -> str:
    return f"(?P<{word}>{ARGUMENTS[word].pattern})" if word in ARGUMENTS else re.escape(word)


def parse_fault(value: Any) -> Fault:
    """``WHAT [arguments] [WHEN] [on STREAM]``. Raises ValueError for anything else, with what was expected."""
    if isinstance(value, Fault):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"a fault like '429 every 7th' was expected, not {value!r}")
    text = " ".join(value.split())
    what, given = without_when(text)
    for name, form in VOCABULARY.items():
        found = pattern_of(name).fullmatch(what)
        if found:
            if form.by_default and not given.keys() & {"every", "percent", "for_count", "for_seconds"}:
                given |= without_when(form.by_default)[1]
            stream = given.pop("stream", None)
            return Fault(text, name, arguments_of(found), When(**given), stream)
    raise ValueError(complaint(what, text))


FaultText = Annotated[Fault, BeforeValidator(parse_fault, json_schema_input_type=str)]


def without_when(text: str) -> tuple[str, dict[str, Any]]:
    """WHAT, and what the clauses at its end say. Raises ValueError for a clause that is there twice."""
    given: dict[str, Any] = {}
    what = text
    while found := next((match for clause in WHEN.values() if (match := clause.search(what))), None):
        clause = when_of(found)
        if clause.keys() & given.keys():
            raise ValueError(f"{text!r} says the same thing twice about when")
        given |= clause
        what = what[: found.start()]
    return what, given


def when_of(found: re.Match[str]) -> dict[str, Any]:
    """One clause, read."""
    if found[0].strip() == "once":
        return {"for_count": 1}
    ((name, text),) = ((name, text) for name, text in found.groupdict().items() if text is not None)
    if name.endswith("_seconds"):
        return {name: parse_duration(text).total_seconds()}
    if name == "stream":
        return {name: text}
    if name == "percent" and float(text) > 100:
        raise ValueError(f"a percentage like 5% was expected, not {text}%")
    return {name: float(text) if name == "percent" else int(text)}


def arguments_of(found: re.Match[str]) -> dict[str, Any]:
    return {name.lower(): ARGUMENTS[name].read(text) for name, text in found.groupdict().items() if text is not None}


def complaint(what: str, text: str) -> str:
    """What was expected instead: the entry that begins alike, or the nearest ones."""
    alike = [name for name in VOCABULARY if begins_alike(name, what)]
    if alike:
        words = {word: argument.words for word, argument in ARGUMENTS.items() if word in alike[0] and argument.words}
        meant = "".join(f"; {word}: {one_of(known)}" for word, known in words.items())
        return f"{alike[0]!r} was expected{meant}, then perhaps {WHEN_WORDS}; not {text!r}"
    heads = [head_of(name) for name in VOCABULARY if head_of(name)]
    return f"a fault like '429 every 7th' was expected, not {text!r}{did_you_mean(what, heads)}; docs/faults.md has all"


def begins_alike(name: str, what: str) -> bool:
    head = head_of(name)
    return f"{what} ".startswith(f"{head} ") if head else what[:3].isdigit()


def head_of(name: str) -> str:
    """The fixed words an entry begins with; empty for a status."""
    words = name.partition(" [")[0].split()
    return " ".join(word for word in words if word not in ARGUMENTS)
