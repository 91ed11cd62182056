"""A limit on everything, each with its reason. Units come last in the name."""

from __future__ import annotations

NAME_BYTES = 40
"""A connection's or connector's name; connection, stream and the separator must fit PostgreSQL's identifiers."""

IDENTIFIER_BYTES = 63
"""PostgreSQL truncates longer identifiers silently, so two streams could share a table."""

EXTERNAL_ID_BYTES = 2_000
"""A PostgreSQL index entry holds about 2,700 bytes; a longer key would refuse the whole batch."""

CHUNK_RECORDS = 3_000
"""Records per transaction: four chunks are under way at once, and with 5,000 in each they took 330 MB."""

CHUNK_SECONDS = 2.0
"""A slow source still commits this often, so that a crash re-reads little."""

MAX_PAGES = 100_000
"""A list of more pages is taken for an endless one; `max_pages` raises it per stream."""

EMPTY_PAGES = 100
"""Empty pages in a row after which a list is taken for an endless one, whatever it says of more."""

MAX_RESPONSE_BYTES = 100 * 1024 * 1024
"""An unpacked answer of more is refused: a 292 kB bomb took 578 MiB when nothing stopped it."""

TIMEOUT_SECONDS = 60.0
"""For the whole answer, not between two bytes: a drip never times out otherwise."""

HOLD_SECONDS = 120.0
"""A longer wait defers the stream instead of holding a worker."""

RETRY_ATTEMPTS = 5
"""Tries per request, the first included."""

RETRY_PERCENT = 20.0
"""Of a connection's requests that may be blind retries: a source in trouble isn't asked several times as much."""

RETRY_RESERVE = 100
"""Retries a connection may make beyond that share; it fills up again in ten minutes."""

BREAKER_FAILURES = 10
"""Failed tries in a row after which a connection's calls are paused; at least those of two whole requests."""

BREAKER_PAUSE_SECONDS = 30.0
"""The first pause, before one call probes the source; each failed probe doubles it."""

BREAKER_LONGEST_PAUSE_SECONDS = 900.0
"""A source that is back is noticed within this time."""

READ_AHEAD_PAGES = 8
"""Pages fetched but not yet committed; bounds memory when the source is faster than the database."""

SECRET_CHARACTERS = 8
"""A shorter secret isn't looked for in texts: it would hide ordinary words. `integrations check` warns of it."""

SAMPLE_CHARACTERS = 200
"""Of a rejected value, kept with the reason."""

ERROR_BODY_CHARACTERS = 500
"""Of a failed answer, shown in a message after redaction."""

BODY_CHARACTERS = 4_000
"""Of a request's and of an answer's body, kept in the call log after redaction: enough to see what was wrong."""

URL_CHARACTERS = 2_000
"""Of a call's URL, kept in the call log: next-page tokens can be very long."""

CALLS_BATCH = 500
"""Calls that are written to the call log together, beside the work."""

CALLS_SECONDS = 5.0
"""A call waits no longer to be written: what a killed process had not written yet is lost."""

CALLS_HELD = 5_000
"""Calls held while the call log can't be written; of more the oldest are dropped, and counted."""

TIED_KEYS = 10_000
"""Keys of one version that a bookmark of a list newest first remembers; of more, the later row counts after a crash."""

STOP_ABOVE_ROWS = 20
"""Fewer rows prove no drift: one bad row in three is not a contract broken."""

STOP_ABOVE_PERCENT = 50.0
"""More bad rows than this in a page stop the stream with its state unmoved."""

TOMBSTONE_PERCENT = 20.0
"""A full refresh that would delete more than this is implausible; `deletes.at_most` raises it."""

TOMBSTONE_ROWS = 20
"""With fewer live rows a share proves nothing: three gone of ten may well be right; all of several are not."""

PROFILE_PATHS = 500
"""Fields of a stream whose looks are remembered: more are data in the place of names."""

PROFILE_SAMPLE_ROWS = 100
"""Rows of a run that are all looked at for drift, then one in a hundred: a look at each would cost too much."""

PROFILE_VALUES = 20
"""A field with more distinct values is no list of values."""

NESTING_DEPTH = 200
"""A deeper record is set aside: PostgreSQL's own parser and ours recurse."""

ANSWER_NESTING_DEPTH = 500
"""A deeper answer is refused as a whole; up to here one deep record costs one record. Parsers recurse to about 900."""

YAML_BYTES = 1024 * 1024
"""A connection file is written by people; a larger one is a mistake or an attack."""

DELIVERY_TRIES = 10
"""A change that its `on_change` address has not taken after as many, in three days, is dead."""

DELIVERY_SECONDS = 15.0
"""For an `on_change` address to answer: it should keep the change and work on it later."""

EVENT_TRIES = 5
"""An event that fails as often is dead, and a person decides."""

EVENT_BATCH = 1_000
"""Events that one lease takes: they are committed together, stream by stream, and held in memory."""

INBOX_DAYS = 30
"""An event that is done is kept as long: to look at, to replay, and to know that one still on its way is late."""

PUSH_AT_ONCE = 8
"""Changes of different records under way at once, all within the connection's rate limit; each has a thread."""

PUSH_TRIES = 20
"""A change whose answer was lost as often, in about four hours, while the source answered others, is given up."""

PUSH_MERGES = 5
"""A change that met another one at the source as often in a row is dead: two programs may be at war over the record."""

OUTBOX_DAYS = 30
"""A change that is done or discarded is kept as long, to be looked at."""

WEBHOOK_GRACE_SECONDS = 300.0
"""An event that comes later than this after a poll found its change is missed: providers send within minutes."""

POLL_STRETCH = 4
"""While webhooks are whole, polls are due after as many times `every`: three of four are spared, and what is lost is
found within a few intervals."""

HTTP_LOG_DAYS = 14
"""Of a call in the log: what a source did is asked within days, and bodies of failures may hold personal data."""

DECISION_DAYS = 90
"""Of a decision: why a record changed is asked for a quarter of a year."""

RUN_DAYS = 90
"""Of a run in the log: a quarter of a year shows how a stream does; the latest of each mode stays."""

DELIVERY_DAYS = 7
"""Of a change that an `on_change` address took: its receiver has it."""

CLOSED_DAYS = 90
"""Of what was set aside and is settled: quarantine that healed, dead letters, conflicts, findings of drift."""

PRUNE_ROWS = 5_000
"""Rows that one statement takes away: locks are short, and whoever writes doesn't wait."""

PRUNE_BATCHES = 200
"""Of a table at a time: a million rows; more go the next night."""

WEBHOOK_BYTES = 4 * 1024 * 1024
"""A delivery is held whole until its signature is checked, and anybody may send one; the poll finds what it told."""

WEBHOOK_EVENTS = 1_000
"""In one delivery; providers send at most 100."""

WEBHOOK_HEAD_BYTES = 64 * 1024
"""Of a delivery's address and headers: 100 signatures and some cookies fit."""

WEBHOOK_SECONDS = 10.0
"""To send a delivery whole: who is slower holds a place that others need."""

HELD_BYTES = 256 * 1024 * 1024
"""Of all deliveries under way; more are asked to come again (503), so that a flood costs no memory."""

COMMIT_SECONDS = 5.0
"""A delivery that is not committed by then is answered 503: its sender waits no longer, and sends it again."""

DATA_RECORDS = 1_000
"""Of a kind in one answer of `GET /data`; a page is 100 unless asked otherwise."""

DATA_SECONDS = 10.0
"""For the database to answer a request for data: whoever asked is still waiting."""

TOKEN_CHARACTERS = 16
"""The least that INTEGRATIONS_TOKEN holds: whoever reaches the gateway may try as many as they like."""

SESSION_HOURS = 12
"""A working day; whoever looks at the gateway's pages longer gives the token again."""

PAGE_ROWS = 100
"""Of quarantine, conflicts, changes or dead letters on one page; the others come up as these are decided."""

PREVIEW_RECORDS = 5_000
"""Stored records that an edited mapping is tried on while somebody waits: half a second."""

PLAN_REQUESTS = 25
"""Pages of each stream that a plan reads unless told otherwise; what it reads it holds in memory."""

PLAN_ROWS = 50_000
"""Rows held of a stream that a plan shapes again after an edit of the mapping: they stay locked until it ends."""

EDIT_DAYS = 30
"""An edit through the gateway can be followed as long, and its idempotency key makes no second record."""

TOKEN_MARGIN_SECONDS = 60.0
"""A token is renewed this long before it expires (a short-lived one when four fifths are over): clocks differ."""

KEY_CHARACTERS = 32
"""Of INTEGRATIONS_KEY at least: a shorter text can be guessed."""

HISTORY_MIN_DAYS = 7
"""Of a stream's own history, before a day is compared with it: a week has days of every kind."""

HISTORY_COUNTS = 3
"""Days of it on which the source was asked: of fewer the lowest and the highest say nothing."""

HISTORY_FACTOR = 2.0
"""A day is unusual below the lowest of its history by this factor, or above the highest: less is a day like others."""

REJECTED_RISE_PERCENT = 1.0
"""Of a day's rows; fewer rejected ones are no rise, however few there were before."""

RUN_TIME_FACTOR = 3.0
"""A run that takes longer than the usual one by this factor has drifted: a busy hour doubles it."""

RUN_TIME_SECONDS = 60.0
"""And longer by this: three seconds instead of one trouble nobody."""

RUN_TIME_MIN_RUNS = 10
"""Runs before the median of their time says what is usual."""

DOWN_SECONDS = 1_800.0
"""Downtime before people are told, unless `expect.down_under` says when: most sources are back before."""

DEFERRED_SECONDS = 21_600.0
"""A stream that is put off again and again for as long is told: limits and pauses pass within hours."""

WAITING_SECONDS = 3_600.0
"""An event or a change that waits longer, while the source is up, is told: they take seconds."""

ALERT_SECONDS = 40.0
"""A round of alerts sends no further message after as long: Dagster gives up on a sensor's tick after a minute."""

ALERT_RETRY_SECONDS = 30.0
"""After the first message that a destination didn't take; doubled with each, up to a quarter of an hour."""

ALERT_LONGEST_RETRY_SECONDS = 900.0
"""A destination that is back hears within this time what it missed."""

ALERT_LINES = 10
"""Of what broke at once in a connection, told in one message; the others are counted."""

ALERT_DAYS = 30
"""An alert that is over is kept as long, to be looked at."""
