"""HTML to the text in it, in one pass over any input: no parser that a broken tag or an open comment could hold up."""

from __future__ import annotations

import html
import re

TAG_NAME = re.compile(r"/?([a-zA-Z][a-zA-Z0-9]*)")
HIDDEN = ("script", "style")
INLINE = {
    "a",
    "abbr",
    "b",
    "cite",
    "code",
    "em",
    "font",
    "i",
    "mark",
    "q",
    "s",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "u",
}


def without_tags(text: str) -> str:
    """Tags, comments, scripts and styles are gone, entities are read, white space is collapsed.

    A tag that breaks a line or opens a block leaves a space, so that words stay apart. ``<`` before anything but a
    tag's name, ``/``, ``!`` or ``?`` is text, and so is a tag that never ends.
    """
    kept: list[str] = []
    position = 0
    last_close = text.rfind(">")
    while 0 <= (start := text.find("<", position)) < last_close or text.startswith("<!--", start):
        kept.append(text[position:start])
        end, gap = end_of_tag(text, start)
        kept.append("<" if end is None else gap)
        position = start + 1 if end is None else end
    kept.append(text[position:])
    return " ".join(html.unescape("".join(kept)).split())


def end_of_tag(text: str, start: int) -> tuple[int | None, str]:
    """Where the markup that starts here ends, and what stands in its place; None where it is no markup."""
    if text.startswith("<!--", start):
        end = text.find("-->", start + 4)
        return (end + 3, "") if end >= 0 else (len(text), "")
    if text.startswith(("<!", "<?"), start):
        end = text.find(">", start)
        return (end + 1 or None, "")
    named = TAG_NAME.match(text, start + 1)
    end = text.find(">", start) if named else -1
    if named is None or end < 0:
        return None, ""
    name = named[1].lower()
    if name in HIDDEN and text[start + 1] != "/":
        return end_of_hidden(text, end, name), " "
    return end + 1, "" if name in INLINE else " "


def end_of_hidden(text: str, start: int, name: str) -> int:
    """The end of a script or style, which is the end of the text where nothing closes it."""
    closing = re.compile(rf"</{name}\b", re.IGNORECASE).search(text, start)
    end = text.find(">", closing.end()) if closing else -1
    return end + 1 or len(text)
