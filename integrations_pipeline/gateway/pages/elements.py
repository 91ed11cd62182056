"""HTML as values. Whatever is not markup already is escaped where it is put in, so that no page can forget to."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

VOID = frozenset({"input", "meta", "link", "br", "hr"})


class Html(str):
    """Markup, as opposed to text."""

    __slots__ = ()


def text_of(child: Any) -> str:
    """One child as markup: nothing for None, the parts of a list or generator one after the other, all else escaped."""
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return "".join(map(text_of, child))
    return escape(str(child))


def el(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element. ``class_`` is the attribute class, ``aria_label`` is aria-label; one that is None or False is left
    out, one that is True has no value."""
    named = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inside = "".join(map(text_of, children))
    return Html(f"<{name}{named}>" if name in VOID else f"<{name}{named}>{inside}</{name}>")


def joined(*children: Any) -> Html:
    """Several one after the other, without an element around them."""
    return Html("".join(map(text_of, children)))


def link(to: str, *children: Any, **attributes: Any) -> Html:
    return el("a", *children, href=to, **attributes)


def table(
    caption: str, columns: Iterable[str | tuple[str, str]], rows: Iterable[Iterable[Any]], **attributes: Any
) -> Html:
    """A table whose rows' first cells are their headers. A column may come with a class: ``("rows", "number")``."""
    heads = [(one, None) if isinstance(one, str) else one for one in columns]
    head = el("tr", (el("th", name, scope="col", class_=kind) for name, kind in heads))
    body = (el("tr", cells(row, [kind for _, kind in heads])) for row in rows)
    inner = el("table", el("caption", caption), el("thead", head), el("tbody", body), **attributes)
    return el("div", inner, class_="scroll", role="region", aria_label=caption, tabindex="0")


def cells(row: Iterable[Any], kinds: list[str | None]) -> Iterable[Html]:
    for place, (child, kind) in enumerate(zip(row, kinds, strict=True)):
        yield el("th", child, scope="row", class_=kind) if place == 0 else el("td", child, class_=kind)


TONES = {"good": "✓", "warn": "!", "bad": "✕", "idle": "–"}


def pill(tone: str, words: str) -> Html:
    """A state: its colour, a sign, and always its words."""
    return el("span", el("span", TONES[tone], aria_hidden="true"), " ", words, class_=f"pill {tone}")
