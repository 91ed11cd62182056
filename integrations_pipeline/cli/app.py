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
    epilog="Begin with `integrations up`, then `integrations status`. Each has a --help; docs/cli.md says more.",
)
CONNECTIONS, STAY, RARE = "Connections and their records", "Programs that run until Ctrl-C", "Rarely needed"
WAITING = "What went wrong, or waits for a decision"


def group(name: str, panel: str, help: str) -> typer.Typer:
    """Commands below a word of their own."""
    made = typer.Typer(no_args_is_help=True, help=help)
    app.add_typer(made, name=name, rich_help_panel=panel)
    return made


new_app = group("new", CONNECTIONS, "Draft a new connection from a few questions and a sample.")
quarantine_app = group("quarantine", WAITING, "Bad rows that were set aside: look, try again, discard.")
drift_app = group("drift", WAITING, "What sources send differently than they used to: look, accept.")
conflicts_app = group("conflicts", WAITING, "Fields that were changed here and at the source: look, decide.")
inbox_app = group("inbox", WAITING, "Events that came by webhook: look, apply again, discard.")
outbox_app = group("outbox", WAITING, "Changes made here on their way to the sources: look, retry, decide.")
delivery_app = group(
    "delivery", WAITING, "Changes posted to the `on_change` addresses of a kind: look, post dead ones again."
)
alerts_app = group("alerts", WAITING, "What is wrong and who is told of it: look, test, tell.")

JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="One JSON document on stdout and nothing else.")]
DebugOption = Annotated[bool, typer.Option("--debug", metavar="", help="Show stack traces.")]
STOPPED = 130
DROP_HELP = "Keep its rows, or drop its raw tables and state; canonical records it alone brought get deleted_at."
PLACE, IDS = "CONNECTION[/STREAM]", "ID"
RowsArgument = Annotated[
    list[str], typer.Argument(metavar=IDS, help="Ids from `list`; or CONNECTION or CONNECTION/STREAM: all open ones.")
]
PlaceArgument = Annotated[
    str | None, typer.Argument(metavar=PLACE, help="Only this connection, or this stream of it; all unless given.")
]
PLAN_HELP = "Pages of each stream that are read at most; 25 unless told otherwise."
ConnectionArgument = Annotated[
    str, typer.Argument(metavar="CONNECTION", help="A connection's name, or its file.", show_default=False)
]
SCHEMA_HELP = "Only print the JSON Schema of: connection, connector or kind. Editors check files with it."
FULL_HELP = "Read everything again, not only what is new; outside the hours of `off_peak` it is put off."
MAPPING_HELP = "Only what the mapping as it stands would change in the records held; asks the source nothing."
ENFORCE_HELP = "Answer 429 (too many requests) beyond the declared limits."
WHY_HELP = "The record's id at the source. Without it: which records were left out lately, and why."
FAULT_HELP = "Do something wrong, as '429 every 7th'; may be repeated. docs/faults.md has all."
WEBHOOKS_HELP = "A gateway's address, as http://127.0.0.1:8766, which is told of each change."
StreamsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="STREAM", help="Only these streams; all unless given.")
]
OneConnection = Annotated[
    str | None, typer.Argument(metavar="CONNECTION", help="Only this connection; all unless given.")
]


@app.callback()
def root(debug: DebugOption = False) -> None:
    """Connect outside systems without losing a row: one YAML file per connection."""


@app.command(rich_help_panel=CONNECTIONS)
def check(
    connections: Annotated[
        list[str] | None, typer.Argument(metavar="CONNECTION", help="Names or files; all unless given.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", metavar="", help="Also ask each source whether the credentials work.")
    ] = False,
    schema: Annotated[str | None, typer.Option(metavar="WHICH", help=SCHEMA_HELP)] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read the YAML files and say all that is wrong in them, with file and line."""
    from integrations_pipeline.cli.checking import run_check, show_schema

    raise typer.Exit(show_schema(schema) if schema else run_check(connections or [], live=live, json=json))


@app.command(rich_help_panel=CONNECTIONS)
def sync(
    connection: ConnectionArgument,
    streams: StreamsArgument = None,
    full: Annotated[bool, typer.Option("--full", metavar="", help=FULL_HELP)] = False,
    now: Annotated[bool, typer.Option("--now", metavar="", help="With --full: do not wait for `off_peak`.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read what is new at the source, check it, store it, and map it into the team's own kinds."""
    from integrations_pipeline.cli.syncing import run_sync

    raise typer.Exit(run_sync(connection, streams or [], full=full, now=now, json=json, debug=debug))


@app.command(rich_help_panel=CONNECTIONS)
def plan(
    connection: ConnectionArgument,
    streams: StreamsArgument = None,
    full: Annotated[bool, typer.Option("--full", metavar="", help="What `sync --full` would do.")] = False,
    requests: Annotated[int | None, typer.Option(min=1, max=10_000, help=PLAN_HELP, show_default=False)] = None,
    mapping: Annotated[bool, typer.Option("--mapping", metavar="", help=MAPPING_HELP)] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell what a sync and a push would do: what comes in, what goes out. Nothing is written, here or there."""
    from integrations_pipeline.cli.planning import run_plan

    raise typer.Exit(run_plan(connection, streams or [], full=full, requests=requests, mapping=mapping, json=json))


@app.command(rich_help_panel=CONNECTIONS)
def status(
    connection: OneConnection = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show each stream: last success, rows held, what is wrong, what is put off and until when."""
    from integrations_pipeline.cli.showing import run_status

    raise typer.Exit(run_status(connection, json=json))


@app.command(rich_help_panel=CONNECTIONS)
def why(
    connection: ConnectionArgument,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The list it belongs to, as in the file.")],
    external_id: Annotated[str | None, typer.Argument(metavar="ID", help=WHY_HELP)] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell one record's whole life in order, or why it isn't here."""
    from integrations_pipeline.cli.explaining import run_why

    raise typer.Exit(run_why(connection, stream, external_id, json=json))


@app.command(rich_help_panel=CONNECTIONS)
def connect(connection: ConnectionArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Test a connection's credentials, prepare its tables, and subscribe its webhook where the file says how."""
    from integrations_pipeline.cli.syncing import run_connect

    raise typer.Exit(run_connect(connection, json=json))


@app.command(rich_help_panel=CONNECTIONS)
def disconnect(
    connection: ConnectionArgument,
    keep_data: Annotated[bool | None, typer.Option("--keep-data/--drop-data", metavar="", help=DROP_HELP)] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Stop reading and writing a connection; its data are kept or dropped, as you say."""
    from integrations_pipeline.cli.syncing import run_disconnect

    raise typer.Exit(run_disconnect(connection, keep_data=keep_data, json=json))


@app.command(rich_help_panel=STAY)
def simulate(
    connections: Annotated[list[str], typer.Argument(metavar="CONNECTION", help="Names or files.")],
    records: Annotated[int, typer.Option(min=10, max=1_000_000, help="Records of each list.")] = 1_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same records.")] = 0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")] = 8765,
    latency: Annotated[float, typer.Option(min=0, help="Milliseconds before each answer.")] = 0.0,
    enforce_limits: Annotated[bool, typer.Option(metavar="", help=ENFORCE_HELP)] = False,
    fault: Annotated[list[str] | None, typer.Option(metavar="FAULT", help=FAULT_HELP)] = None,
    webhooks: Annotated[str | None, typer.Option(metavar="URL", help=WEBHOOKS_HELP)] = None,
    debug: DebugOption = False,
) -> None:
    """Imitate outside systems over HTTP on this machine, as their YAML files describe them: to try a connection."""
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


@app.command(rich_help_panel=STAY)
def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8766,
    debug: DebugOption = False,
) -> None:
    """Run the gateway alone: webhooks come in, pages for people, the team's records at /data, metrics."""
    from integrations_pipeline.cli.serving import run_serve

    raise typer.Exit(run_serve(host=host, port=port))


@app.command(rich_help_panel=RARE)
def receive(connection: ConnectionArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Apply the webhook events that wait for a connection. Where Dagster runs, it does so by itself."""
    from integrations_pipeline.cli.receiving import run_receive

    raise typer.Exit(run_receive(connection, json=json))


@app.command(rich_help_panel=CONNECTIONS)
def push(
    connection: Annotated[
        str | None, typer.Argument(metavar="CONNECTION", help="Only this one; all that write unless given.")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write what was changed here to the sources. Where Dagster runs, it does so by itself."""
    from integrations_pipeline.cli.pushing import run_push

    raise typer.Exit(run_push(connection, json=json))


@app.command(rich_help_panel=STAY)
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of Dagster's UI, on 127.0.0.1.")] = 3000,
    gateway_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Of webhooks and status page, on 127.0.0.1.")
    ] = 8766,
    records: Annotated[int, typer.Option(min=10, max=1_000_000, help="In each list of the simulated demo.")] = 1_000,
    debug: DebugOption = False,
) -> None:
    """Start everything: the database, the simulated demo, the gateway with its status page, and Dagster."""
    from integrations_pipeline.cli.upping import run_up

    raise typer.Exit(run_up(port=port, gateway_port=gateway_port, records=records))


@app.command(rich_help_panel=RARE)
def prune(json: JsonOption = False, debug: DebugOption = False) -> None:
    """Delete logs and history that are older than docs/logging.md says. Dagster does so each night."""
    from integrations_pipeline.cli.pruning import run_prune

    raise typer.Exit(run_prune(json=json))


@app.command("database-url", rich_help_panel=RARE)
def database_url(debug: DebugOption = False) -> None:
    """Print the address of the PostgreSQL in use, for any client. It holds the password."""
    from integrations_pipeline.cli.showing import run_database_url

    raise typer.Exit(run_database_url())


@new_app.command("connection")
def new_connection(debug: DebugOption = False) -> None:
    """Ask a few questions, fetch a sample from the source, and write connections/NAME.yaml, to be looked over."""
    from integrations_pipeline.cli.drafting import run_new_connection

    raise typer.Exit(run_new_connection())


@quarantine_app.command("list")
def quarantine_list(what: PlaceArgument = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show which rules the rows broke: how many, in which field, with samples and ids."""
    from integrations_pipeline.cli.quarantining import run_list

    raise typer.Exit(run_list(what, json=json))


@quarantine_app.command("show")
def quarantine_show(
    row: Annotated[int, typer.Argument(metavar="ID", help="The row's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one row whole: why it was set aside, and the record without secrets."""
    from integrations_pipeline.cli.quarantining import run_show

    raise typer.Exit(run_show(row, json=json))


@quarantine_app.command("retry")
def quarantine_retry(what: RowsArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Try rows again by the file as it is now, from what is stored of them; the source is asked nothing."""
    from integrations_pipeline.cli.quarantining import run_retry

    raise typer.Exit(run_retry(what, json=json))


@quarantine_app.command("discard")
def quarantine_discard(
    what: RowsArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why they may be left out; kept with the decision.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Give rows up for good, with a reason."""
    from integrations_pipeline.cli.quarantining import run_discard

    raise typer.Exit(run_discard(what, reason=reason, json=json))


@drift_app.command("list")
def drift_list(what: PlaceArgument = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show what streams send differently than they used to, with samples."""
    from integrations_pipeline.cli.drifting import run_list

    raise typer.Exit(run_list(what, json=json))


@drift_app.command("accept")
def drift_accept(what: RowsArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Say that the new form is right: the findings end, and the like is no longer told."""
    from integrations_pipeline.cli.drifting import run_accept

    raise typer.Exit(run_accept(what, json=json))


EventsArgument = Annotated[
    list[str],
    typer.Argument(metavar=IDS, help="Ids from `list`; or CONNECTION: all its dead ones (given up after many tries)."),
]
STATUS_HELP = "received (waits), leased (is just applied), done, dead (given up) or discarded."


@inbox_app.command("list")
def inbox_list(
    connection: OneConnection = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help=STATUS_HELP)] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the events by type and status: how many, what became of them, and some of their ids."""
    from integrations_pipeline.cli.receiving import run_list

    raise typer.Exit(run_list(connection, status=status, json=json))


@inbox_app.command("show")
def inbox_show(
    event: Annotated[int, typer.Argument(metavar="ID", help="The event's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one event whole: what became of it and why, and its payload without secrets."""
    from integrations_pipeline.cli.receiving import run_show

    raise typer.Exit(run_show(event, json=json))


@inbox_app.command("replay")
def inbox_replay(what: EventsArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Apply events again, also done ones. Never puts an older state over a newer one."""
    from integrations_pipeline.cli.receiving import run_replay

    raise typer.Exit(run_replay(what, json=json))


@inbox_app.command("discard")
def inbox_discard(
    what: EventsArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why they may be left out; kept with the event.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Give events up for good, with a reason."""
    from integrations_pipeline.cli.receiving import run_discard

    raise typer.Exit(run_discard(what, reason=reason, json=json))


ChangesArgument = Annotated[
    list[str],
    typer.Argument(metavar=IDS, help="Ids from `list`; or KIND: all its dead ones (given up after many tries)."),
]


@delivery_app.command("list")
def delivery_list(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="Only this kind; all unless given.")] = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="queued, delivered or dead (given up).")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the changes by kind, address and status: how many, and why the last one failed."""
    from integrations_pipeline.cli.delivering import run_list

    raise typer.Exit(run_list(kind, status=status, json=json))


@delivery_app.command("show")
def delivery_show(
    change: Annotated[int, typer.Argument(metavar="ID", help="The change's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one change whole: what became of it and why, with the record before and after."""
    from integrations_pipeline.cli.delivering import run_show

    raise typer.Exit(run_show(change, json=json))


@delivery_app.command("replay")
def delivery_replay(what: ChangesArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Post dead changes once more, under the ids they had."""
    from integrations_pipeline.cli.delivering import run_replay

    raise typer.Exit(run_replay(what, json=json))


@alerts_app.command("list")
def alerts_list(connection: OneConnection = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show what is wrong now: since when, who must act, what next; and which destination can't be reached."""
    from integrations_pipeline.cli.alerting import run_list

    raise typer.Exit(run_list(connection, json=json))


@alerts_app.command("test")
def alerts_test(connection: OneConnection = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Send a test message to each destination of `alerts`, and say which took it."""
    from integrations_pipeline.cli.alerting import run_test

    raise typer.Exit(run_test(connection, json=json))


@alerts_app.command("send")
def alerts_send(connection: OneConnection = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Look once and tell the destinations what is new. Where Dagster runs, it does so by itself."""
    from integrations_pipeline.cli.alerting import run_send

    raise typer.Exit(run_send(connection, json=json))


OutgoingArgument = Annotated[
    list[str], typer.Argument(metavar=IDS, help="Ids from `list`; or CONNECTION: all of it that may be.")
]
CHANGE_HELP = "queued, sending, unsure (its answer was lost), answered, done, parked (needs you), dead or discarded."


@outbox_app.command("list")
def outbox_list(
    connection: OneConnection = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help=CHANGE_HELP)] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the changes that are still to be done or were given up, by stream, status and reason."""
    from integrations_pipeline.cli.pushing import run_list

    raise typer.Exit(run_list(connection, status=status, json=json))


@outbox_app.command("show")
def outbox_show(
    change: Annotated[int, typer.Argument(metavar="ID", help="The change's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one change whole: what it writes, what became of it, and who must act."""
    from integrations_pipeline.cli.pushing import run_show

    raise typer.Exit(run_show(change, json=json))


@outbox_app.command("retry")
def outbox_retry(what: OutgoingArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Send dead changes again, and waiting ones at once."""
    from integrations_pipeline.cli.pushing import run_retry

    raise typer.Exit(run_retry(what, json=json))


@outbox_app.command("discard")
def outbox_discard(
    what: OutgoingArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why they may be left out; kept with the change.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Give dead changes up for good, with a reason; of an id also one that waits."""
    from integrations_pipeline.cli.pushing import run_discard

    raise typer.Exit(run_discard(what, reason=reason, json=json))


@outbox_app.command("resolve")
def outbox_resolve(
    change: Annotated[int, typer.Argument(metavar="ID", help="The id of a parked create, from `list`.")],
    external_id: Annotated[str | None, typer.Option(metavar="TEXT", help="It is there, under this id.")] = None,
    not_there: Annotated[bool, typer.Option("--not-there", metavar="", help="It isn't there: send it again.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say what became of a new record that was sent but whose answer was lost: only you can look."""
    from integrations_pipeline.cli.pushing import run_resolve

    raise typer.Exit(run_resolve(change, external_id=external_id, not_there=not_there, json=json))


@conflicts_app.command("list")
def conflicts_list(what: PlaceArgument = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show the fields that both sides changed and that a person is to decide about, with both values."""
    from integrations_pipeline.cli.resolving import run_list

    raise typer.Exit(run_list(what, json=json))


@conflicts_app.command("show")
def conflicts_show(
    conflict: Annotated[int, typer.Argument(metavar="ID", help="The conflict's id, from `list`.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one conflict whole: what was agreed last, ours and theirs, and what each side changed."""
    from integrations_pipeline.cli.resolving import run_show

    raise typer.Exit(run_show(conflict, json=json))


@conflicts_app.command("resolve")
def conflicts_resolve(
    what: Annotated[list[str], typer.Argument(metavar=IDS, help="Ids from `list`; all get the same decision.")],
    ours: Annotated[
        bool, typer.Option("--ours", metavar="", help="Our value counts, and is written to the source.")
    ] = False,
    theirs: Annotated[
        bool, typer.Option("--theirs", metavar="", help="The source's value counts, and is taken over.")
    ] = False,
    value: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Neither: this value counts, here and there.")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Decide conflicts: one of --ours, --theirs, --value."""
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
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "integrations"
    found = ConfigError(error.format_message(), who=output.TYPED, next=f"see `{command} --help`")
    return report(found, arguments)


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
        code = app(arguments, prog_name="integrations", standalone_mode=False)
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
