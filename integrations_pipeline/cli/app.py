"""The commands. Heavy imports happen inside them, so that `--help` and `check` answer at once."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from integrations_pipeline.cli import output
from integrations_pipeline.spec.errors import ConfigError, IntegrationError

app = typer.Typer(
    name="integrations",
    help="Connect outside systems without losing a row: one YAML file per connection.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
new_app = typer.Typer(no_args_is_help=True, help="Draft new files.")
app.add_typer(new_app, name="new")
quarantine_app = typer.Typer(no_args_is_help=True, help="Rows that were set aside: look, try again, discard.")
app.add_typer(quarantine_app, name="quarantine")
drift_app = typer.Typer(no_args_is_help=True, help="What sources send differently by now: look, accept.")
app.add_typer(drift_app, name="drift")
inbox_app = typer.Typer(no_args_is_help=True, help="Events that webhooks brought: look, replay, discard.")
app.add_typer(inbox_app, name="inbox")
delivery_app = typer.Typer(no_args_is_help=True, help="Changes told onward by `on_change`: look, replay dead ones.")
app.add_typer(delivery_app, name="delivery")
alerts_app = typer.Typer(no_args_is_help=True, help="Who is told what is wrong: look, test, tell.")
app.add_typer(alerts_app, name="alerts")
outbox_app = typer.Typer(no_args_is_help=True, help="Changes made here on their way out: look, retry, decide.")
app.add_typer(outbox_app, name="outbox")

conflicts_app = typer.Typer(no_args_is_help=True, help="Fields that both sides changed: look, decide.")
app.add_typer(conflicts_app, name="conflicts")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show stack traces.")]
STOPPED = 130
DROP_HELP = "Keep its rows, or drop its raw tables and state; canonical records it alone brought get deleted_at."
RowsArgument = Annotated[
    list[str], typer.Argument(help="Ids from `list`; or CONNECTION or CONNECTION/STREAM: all that is open.")
]
PlaceArgument = Annotated[str | None, typer.Argument(help="CONNECTION or CONNECTION/STREAM; all unless given.")]
PLAN_HELP = "Pages of each stream that are read at most; 25 unless told otherwise."
ConnectionArgument = Annotated[str, typer.Argument(help="A connection's name, or its file.", show_default=False)]


@app.callback()
def root(debug: DebugOption = False) -> None:
    """Connect outside systems without losing a row: one YAML file per connection."""


@app.command()
def check(
    connections: Annotated[list[str] | None, typer.Argument(help="Names or files; all unless given.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Also ask each source whether the credentials work.")] = False,
    schema: Annotated[str | None, typer.Option(help="Print the JSON Schema: connection, connector or kind.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read the YAML files and say all that is wrong in them, with file and line."""
    from integrations_pipeline.cli.checking import run_check, show_schema

    raise typer.Exit(show_schema(schema) if schema else run_check(connections or [], live=live, json=json))


@app.command()
def sync(
    connection: ConnectionArgument,
    streams: Annotated[list[str] | None, typer.Argument(help="Streams; all selected ones unless given.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything again; outside `off_peak` deferred.")] = False,
    now: Annotated[bool, typer.Option("--now", help="With --full: do not wait for `off_peak`.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Pull a connection's streams, check them, and shape them into the team's own model."""
    from integrations_pipeline.cli.syncing import run_sync

    raise typer.Exit(run_sync(connection, streams or [], full=full, now=now, json=json, debug=debug))


@app.command()
def plan(
    connection: ConnectionArgument,
    streams: Annotated[list[str] | None, typer.Argument(help="Streams; all selected ones unless given.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Plan a full refresh.")] = False,
    requests: Annotated[int | None, typer.Option(min=1, max=10_000, help=PLAN_HELP, show_default=False)] = None,
    mapping: Annotated[bool, typer.Option("--mapping", help="What edits of mappings change; no request.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell what a sync and a push would do, without writing anything here or there."""
    from integrations_pipeline.cli.planning import run_plan

    raise typer.Exit(run_plan(connection, streams or [], full=full, requests=requests, mapping=mapping, json=json))


@app.command()
def status(
    connection: Annotated[str | None, typer.Argument(help="One connection; all unless given.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show each stream: last success, rows held, quarantine, what is deferred and until when."""
    from integrations_pipeline.cli.showing import run_status

    raise typer.Exit(run_status(connection, json=json))


@app.command()
def why(
    connection: ConnectionArgument,
    stream: Annotated[str, typer.Argument(help="The stream it belongs to.", show_default=False)],
    external_id: Annotated[str, typer.Argument(metavar="ID", help="Its id at the source.", show_default=False)],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell one record's whole life in order, or why it isn't here."""
    from integrations_pipeline.cli.explaining import run_why

    raise typer.Exit(run_why(connection, stream, external_id, json=json))


@app.command()
def connect(connection: ConnectionArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Test a connection's credentials and prepare its tables."""
    from integrations_pipeline.cli.syncing import run_connect

    raise typer.Exit(run_connect(connection, json=json))


@app.command()
def disconnect(
    connection: ConnectionArgument,
    keep_data: Annotated[bool | None, typer.Option("--keep-data/--drop-data", help=DROP_HELP)] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Stop a connection; its data is kept or dropped as told."""
    from integrations_pipeline.cli.syncing import run_disconnect

    raise typer.Exit(run_disconnect(connection, keep_data=keep_data, json=json))


@app.command()
def simulate(
    connections: Annotated[list[str], typer.Argument(help="Names or files of connections to imitate.")],
    records: Annotated[int, typer.Option(min=10, max=1_000_000, help="Records per top-level stream.")] = 1_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same records.")] = 0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")] = 8765,
    latency: Annotated[float, typer.Option(min=0, help="Milliseconds before each answer.")] = 0.0,
    enforce_limits: Annotated[bool, typer.Option(help="Answer 429 beyond the declared limits.")] = False,
    fault: Annotated[list[str] | None, typer.Option(help="As '429 every 7th'; may be repeated.")] = None,
    webhooks: Annotated[str | None, typer.Option(help="A gateway's address, to be told of each change.")] = None,
    debug: DebugOption = False,
) -> None:
    """Imitate outside systems over HTTP on this machine, from their YAML files."""
    from integrations_pipeline.cli.simulating import run_simulate

    raise typer.Exit(
        run_simulate(
            connections,
            records=records,
            seed=seed,
            port=port,
            latency_ms=latency,
            enforce_limits=enforce_limits,
            faults=fault or [],
            webhooks=webhooks,
        )
    )


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8766,
    debug: DebugOption = False,
) -> None:
    """Receive webhooks and store their events; serve the team's records at /data. Until Ctrl-C."""
    from integrations_pipeline.cli.serving import run_serve

    raise typer.Exit(run_serve(host=host, port=port))


@app.command()
def receive(connection: ConnectionArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Apply the events that wait in a connection's inbox. Dagster does it by itself."""
    from integrations_pipeline.cli.receiving import run_receive

    raise typer.Exit(run_receive(connection, json=json))


@app.command()
def push(
    connection: Annotated[str | None, typer.Argument(help="A connection; all that write unless given.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Send what was changed here. Dagster does it by itself."""
    from integrations_pipeline.cli.pushing import run_push

    raise typer.Exit(run_push(connection, json=json))


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the UI, on 127.0.0.1.")] = 3000,
    gateway_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the gateway, on 127.0.0.1.")] = 8766,
    records: Annotated[int, typer.Option(min=10, max=1_000_000, help="Per stream of the simulated demo.")] = 1_000,
    debug: DebugOption = False,
) -> None:
    """Start the database, the simulated demo, the gateway, Dagster's UI and its daemon; Ctrl-C stops them."""
    from integrations_pipeline.cli.upping import run_up

    raise typer.Exit(run_up(port=port, gateway_port=gateway_port, records=records))


@app.command()
def prune(json: JsonOption = False, debug: DebugOption = False) -> None:
    """Take away what is over and older than the limits say. Dagster does it by itself, each night."""
    from integrations_pipeline.cli.pruning import run_prune

    raise typer.Exit(run_prune(json=json))


@app.command("database-url")
def database_url(debug: DebugOption = False) -> None:
    """Print the URL of the PostgreSQL in use (it holds the password)."""
    from integrations_pipeline.cli.showing import run_database_url

    raise typer.Exit(run_database_url())


@new_app.command("connection")
def new_connection(debug: DebugOption = False) -> None:
    """Ask the few questions, fetch a sample, and draft a connection file with `fields` and `map`."""
    from integrations_pipeline.cli.drafting import run_new_connection

    raise typer.Exit(run_new_connection())


@quarantine_app.command("list")
def quarantine_list(what: PlaceArgument = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show the rules that open rows broke: how many, in which field, with samples."""
    from integrations_pipeline.cli.quarantining import run_list

    raise typer.Exit(run_list(what, json=json))


@quarantine_app.command("show")
def quarantine_show(
    row: Annotated[int, typer.Argument(help="The row's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one row whole: its reasons, and its payload without secrets."""
    from integrations_pipeline.cli.quarantining import run_show

    raise typer.Exit(run_show(row, json=json))


@quarantine_app.command("retry")
def quarantine_retry(what: RowsArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Try open rows again from what is stored of them; the source is asked nothing."""
    from integrations_pipeline.cli.quarantining import run_retry

    raise typer.Exit(run_retry(what, json=json))


@quarantine_app.command("discard")
def quarantine_discard(
    what: RowsArgument,
    reason: Annotated[str, typer.Option(help="Why they may be left out; kept with the decision.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Close open rows for good, with a reason."""
    from integrations_pipeline.cli.quarantining import run_discard

    raise typer.Exit(run_discard(what, reason=reason, json=json))


@drift_app.command("list")
def drift_list(what: PlaceArgument = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show what streams send differently than they used to, with samples."""
    from integrations_pipeline.cli.drifting import run_list

    raise typer.Exit(run_list(what, json=json))


@drift_app.command("accept")
def drift_accept(what: RowsArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Take findings for right: they end, and the like is no news any more."""
    from integrations_pipeline.cli.drifting import run_accept

    raise typer.Exit(run_accept(what, json=json))


EventsArgument = Annotated[
    list[str], typer.Argument(help="Ids from `list`; or CONNECTION: all its dead ones.", show_default=False)
]
STATUS_HELP = "received, leased, done, dead or discarded."


@inbox_app.command("list")
def inbox_list(
    connection: Annotated[str | None, typer.Argument(help="One connection; all unless given.")] = None,
    status: Annotated[str | None, typer.Option(help=STATUS_HELP)] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the events by type and status: how many, and what became of them."""
    from integrations_pipeline.cli.receiving import run_list

    raise typer.Exit(run_list(connection, status=status, json=json))


@inbox_app.command("show")
def inbox_show(
    event: Annotated[int, typer.Argument(help="The event's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one event whole: what became of it and why, and its payload without secrets."""
    from integrations_pipeline.cli.receiving import run_show

    raise typer.Exit(run_show(event, json=json))


@inbox_app.command("replay")
def inbox_replay(what: EventsArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Let events be applied again; what is newer by now stays."""
    from integrations_pipeline.cli.receiving import run_replay

    raise typer.Exit(run_replay(what, json=json))


@inbox_app.command("discard")
def inbox_discard(
    what: EventsArgument,
    reason: Annotated[str, typer.Option(help="Why they may be left out; kept with the event.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Give events up for good, with a reason."""
    from integrations_pipeline.cli.receiving import run_discard

    raise typer.Exit(run_discard(what, reason=reason, json=json))


ChangesArgument = Annotated[
    list[str], typer.Argument(help="Ids from `list`; or KIND: all its dead ones.", show_default=False)
]


@delivery_app.command("list")
def delivery_list(
    kind: Annotated[str | None, typer.Argument(help="One kind; all unless given.")] = None,
    status: Annotated[str | None, typer.Option(help="queued, delivered or dead.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the changes told onward by kind, address and status: how many, and why the last one failed."""
    from integrations_pipeline.cli.delivering import run_list

    raise typer.Exit(run_list(kind, status=status, json=json))


@delivery_app.command("show")
def delivery_show(
    change: Annotated[int, typer.Argument(help="The change's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one change whole: what became of it and why, with the record before and after."""
    from integrations_pipeline.cli.delivering import run_show

    raise typer.Exit(run_show(change, json=json))


@delivery_app.command("replay")
def delivery_replay(what: ChangesArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Send dead changes once more, under the ids they had."""
    from integrations_pipeline.cli.delivering import run_replay

    raise typer.Exit(run_replay(what, json=json))


OneConnection = Annotated[str | None, typer.Argument(help="One connection; all unless given.")]


@alerts_app.command("list")
def alerts_list(connection: OneConnection = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show what is wrong: since when, who must act, what next, and which destination doesn't take its alerts."""
    from integrations_pipeline.cli.alerting import run_list

    raise typer.Exit(run_list(connection, json=json))


@alerts_app.command("test")
def alerts_test(connection: OneConnection = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Send a test message to each destination, and say which took it."""
    from integrations_pipeline.cli.alerting import run_test

    raise typer.Exit(run_test(connection, json=json))


@alerts_app.command("send")
def alerts_send(connection: OneConnection = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Look once, and tell the destinations what is due. Dagster does it by itself."""
    from integrations_pipeline.cli.alerting import run_send

    raise typer.Exit(run_send(connection, json=json))


OutgoingArgument = Annotated[
    list[str], typer.Argument(help="Ids from `list`; or CONNECTION: all that it may mean.", show_default=False)
]
CHANGE_HELP = "queued, sending, unsure, answered, done, parked, dead or discarded."


@outbox_app.command("list")
def outbox_list(
    connection: Annotated[str | None, typer.Argument(help="One connection; all unless given.")] = None,
    status: Annotated[str | None, typer.Option(help=CHANGE_HELP)] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the changes that aren't over, by stream, status and reason."""
    from integrations_pipeline.cli.pushing import run_list

    raise typer.Exit(run_list(connection, status=status, json=json))


@outbox_app.command("show")
def outbox_show(
    change: Annotated[int, typer.Argument(help="The change's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one change whole: what it sends, what became of it, and who must act."""
    from integrations_pipeline.cli.pushing import run_show

    raise typer.Exit(run_show(change, json=json))


@outbox_app.command("retry")
def outbox_retry(what: OutgoingArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Let dead changes be sent again, and waiting ones at once."""
    from integrations_pipeline.cli.pushing import run_retry

    raise typer.Exit(run_retry(what, json=json))


@outbox_app.command("discard")
def outbox_discard(
    what: OutgoingArgument,
    reason: Annotated[str, typer.Option(help="Why they may be left out; kept with the change.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Give changes up that aren't done."""
    from integrations_pipeline.cli.pushing import run_discard

    raise typer.Exit(run_discard(what, reason=reason, json=json))


@outbox_app.command("resolve")
def outbox_resolve(
    change: Annotated[int, typer.Argument(help="The id of a parked create.")],
    external_id: Annotated[str | None, typer.Option(help="It is there, under this id.")] = None,
    not_there: Annotated[bool, typer.Option("--not-there", help="It isn't there: send it again.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say what became of a create whose answer was lost."""
    from integrations_pipeline.cli.pushing import run_resolve

    raise typer.Exit(run_resolve(change, external_id=external_id, not_there=not_there, json=json))


@conflicts_app.command("list")
def conflicts_list(what: PlaceArgument = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show the fields that both sides changed and that a person is to decide about."""
    from integrations_pipeline.cli.resolving import run_list

    raise typer.Exit(run_list(what, json=json))


@conflicts_app.command("show")
def conflicts_show(
    conflict: Annotated[int, typer.Argument(help="The conflict's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one conflict whole: what was agreed last, ours and theirs, and what each side changed."""
    from integrations_pipeline.cli.resolving import run_show

    raise typer.Exit(run_show(conflict, json=json))


@conflicts_app.command("resolve")
def conflicts_resolve(
    what: Annotated[list[str], typer.Argument(help="Ids from `list`.", show_default=False)],
    ours: Annotated[bool, typer.Option("--ours", help="Ours counts, and goes out.")] = False,
    theirs: Annotated[bool, typer.Option("--theirs", help="Theirs counts, and is taken over here.")] = False,
    value: Annotated[str | None, typer.Option(help="Neither: this counts, here and there.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Decide open conflicts, all alike."""
    from integrations_pipeline.cli.resolving import run_resolve

    raise typer.Exit(run_resolve(what, ours=ours, theirs=theirs, value=value, json=json))


def report(error: IntegrationError, arguments: list[str]) -> int:
    """One clear error, in the form asked for; returns the exit code."""
    if "--debug" in arguments:
        traceback.print_exception(error)
    error = output.by_hand(error)
    if "--json" in arguments:
        output.print_json({"errors": output.error_documents(error)})
    else:
        output.show_error(error)
    return error.exit_code


def usage_error(error: TyperException, arguments: list[str]) -> int:
    """A wrong command line is a configuration error, in JSON too. No command at all has shown the help already."""
    if not error.format_message():
        return ConfigError.exit_code
    return report(ConfigError(error.format_message(), who=output.TYPED, next="see `integrations --help`"), arguments)


def unexpected(error: Exception, arguments: list[str]) -> int:
    """A defect of ours: said as such, with the trace on demand."""
    found = IntegrationError(
        f"unexpected {type(error).__name__}: {error}",
        who="the makers of this program",
        next="run it again with --debug and report what it prints",
    )
    if "--debug" in arguments:
        traceback.print_exception(error)
        arguments = [one for one in arguments if one != "--debug"]
    return report(found, arguments)


def main(arguments: list[str] | None = None) -> Any:
    """The entry point. Ends the process with the contract's exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(arguments, standalone_mode=False)
    except IntegrationError as error:
        code = report(error, arguments)
    except TyperException as error:
        code = usage_error(error, arguments)
    except (typer.Abort, KeyboardInterrupt):
        code = STOPPED
    except Exception as error:  # noqa: BLE001 - the door: nothing may end in a bare trace
        code = unexpected(error, arguments)
    if code == STOPPED:  # typer itself makes it of most Ctrl-C
        kept = "; what was committed is kept, the next sync goes on from there" if "sync" in arguments else ""
        output.errors.print(f"stopped{kept}")
    sys.exit(code or 0)
