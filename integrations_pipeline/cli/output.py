"""What people and programs see: one clear line per error, one JSON document, progress while it runs."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from integrations_pipeline.spec.errors import ConfigError, Deferred, IntegrationError

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)
TYPED = "whoever typed the command"


def print_json(document: Any) -> None:
    """The one document of ``--json`` on stdout."""
    sys.stdout.write(json_text(document) + "\n")
    sys.stdout.flush()


def json_text(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def error_documents(error: IntegrationError) -> list[dict[str, Any]]:
    """The entries of ``{"errors": […]}``: one per problem of a file, else the error itself."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    if not problems:
        return [{**error.as_dict(), "file": None, "line": None}]
    return [
        {**error.as_dict(), "message": p.message, "where": p.path, "file": p.file, "line": p.line or None}
        for p in problems
    ]


def show_error(error: IntegrationError) -> None:
    """What, where, who must act, what next, on stderr."""
    if isinstance(error, ConfigError) and error.problems:
        for problem in error.problems:
            errors.print(str(problem), style="red", markup=False)
        errors.print(f"  {error.who}: {error.next}", markup=False)
        return
    where = f" [{error.where}]" if error.where else ""
    errors.print(f"{error.error_class}: {error.what}{where}", style="red", markup=False)
    errors.print(f"  {error.who}: {error.next}", markup=False)


def by_hand(error: IntegrationError) -> IntegrationError:
    """The same error of a command that nothing resumes: who typed it must, at the time it names."""
    if isinstance(error, Deferred):
        after = f" after {error.resume_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if error.resume_at else ""
        error.who, error.next = TYPED, f"run it again{after}"
    return error


def local(moment: datetime | None) -> str:
    """A time as the terminal's owner reads it, with its zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if moment else "–"


class PlainTable(Table):
    """Its cells are texts of sources and files: brackets in them are no markup."""

    def add_row(self, *cells: Any, **style: Any) -> None:
        super().add_row(*(Text(one) if isinstance(one, str) else one for one in cells), **style)


def table(*headings: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    """A table without side lines, which fits 80 columns; what doesn't fit is folded, never cut."""
    made = PlainTable(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in headings:
        number = heading in right
        made.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=number)
    return made


class TerminalProgress:
    """Progress of a sync on stderr: records, pages, rate, time left where the total is known, time waited."""

    def __init__(self) -> None:
        self.bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.fields[name]}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[read]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[waited]}"),
            console=errors,
            transient=True,
        )
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> TerminalProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def task(self, stream: str) -> Any:
        if stream not in self.tasks:
            self.tasks[stream] = self.bars.add_task("", total=None, name=stream, read="", left="", waited="")
        return self.tasks[stream]

    def phase(self, stream: str, text: str) -> None:
        self.bars.update(self.task(stream), description=text)

    def page(self, stream: str, *, records: int, pages: int, total: int | None, waited_seconds: float) -> None:
        task = self.task(stream)
        elapsed = self.bars.tasks[task].elapsed or 0.0
        of = f" of {total:,}" if total else ""
        rate = f", {records / elapsed:,.0f}/s" if elapsed > 1 else ""
        waited = f"waited {waited_seconds:.0f} s" if waited_seconds >= 1 else ""
        self.bars.update(
            task, completed=records, total=total, read=f"{records:,}{of} records, {pages:,} pages{rate}", waited=waited
        )
        left = self.bars.tasks[task].time_remaining
        self.bars.update(task, left=f"{timedelta(seconds=int(left))} left" if left else "")
