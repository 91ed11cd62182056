"""Each refusal by an example: the line marked ``#!`` is the one the message names."""

from __future__ import annotations

from pathlib import Path

import pytest

from integrations_pipeline.spec.refusals import REFUSALS
from integrations_pipeline_tests.spec.written import CUSTOMER, SHOP, problems

API = """\
connection: shop
api:
  url: https://api.example.com/v1
  pagination: {type: single_page}
"""
ORDERS = API + "streams:\n  orders:\n    records: data\n    primary_key: id\n"
MAPPED = ORDERS + "    request: GET /orders\n    map:\n      to: customer\n      fields:\n"
WRITTEN = MAPPED + "        email: email\n"
HOOK = SHOP + "    get: GET /orders/<external_id>\nsecrets: {s: {env: S}}\nwebhook:\n"
SIGNED = HOOK + "  verify: {type: hmac, signature: header X-Sign, signed: <body>, secret: $s}\n"

CASES: dict[str, list[tuple[str, str, str]]] = {
    "reserved_connection": [
        (SHOP.replace("shop\n", "canonical  #!\n", 1), "connection", "another name was expected: canonical is")
    ],
    "joined_name": [
        (
            API.replace("shop", "s" * 40) + "streams:\n  " + "o" * 22 + ":  #!\n    request: GET /o\n    records: .\n"
            "    primary_key: id\n",
            "streams." + "o" * 22,
            "shorter names were expected: the table",
        )
    ],
    "reserved_stream": [
        (SHOP.replace("  orders:", "  record:  #!"), "streams.record", "another name was expected: <record.…> has")
    ],
    "told_twice": [
        (
            SHOP + "alerts:\n- {env: CHAT, from: error}\n- {env: MAIL}\n- {env: CHAT}  #!\n",
            "alerts[2].env",
            "another destination was expected: CHAT stands already in alerts[0]",
        )
    ],
    "reserved_setting": [
        (
            SHOP.replace("/orders", "/<reference>") + "settings:\n  reference: x  #!\n",
            "settings.reference",
            "another name was expected: <reference> has a meaning",
        )
    ],
    "fault_on_nothing": [
        (
            SHOP + "faults:\n- 429 every 7th\n- reset 5% on order  #!\n",
            "faults[1]",
            "a stream was expected after `on`, not order (did you mean 'orders'?)",
        )
    ],
    "unknown_secret": [
        (
            SHOP.replace("api:", "secrets: {token: {env: T}}\napi:\n  headers: {X: $token}")
            + "    headers: {Y: $tokn}  #!\n",
            "streams.orders.headers.Y",
            "a secret declared under `secrets` was expected, not $tokn (did you mean 'token'?)",
        )
    ],
    "written_secret": [
        (
            SHOP.replace("api:", "api:\n  auth: {type: bearer, token: sk_live_1}  #!"),
            "api.auth.token",
            "$NAME of a secret declared under `secrets` was expected, not the secret itself",
        )
    ],
    "embedded_secret": [
        (
            SHOP.replace(
                "api:", "secrets: {token: {env: T}}\napi:\n  query: {t: $token}\n  headers: {X: Bearer $token}  #!"
            ),
            "api.headers.X",
            "$token was expected as the whole value",
        )
    ],
    "unused_secret": [(SHOP + "secrets:\n  token: {env: T}  #!\n", "secrets.token", "$token is never used: remove it")],
    "unknown_selected": [
        (SHOP + "select: [ordrs]  #!\n", "select[0]", "a stream was expected, not ordrs (did you mean 'orders'?)"),
        (
            SHOP
            + "  lines: {request: GET /orders/<orders.id>/lines, records: ., primary_key: id}\nselect: [lines]  #!\n",
            "select[0]",
            "lines is read under orders: orders was expected in the list too",
        ),
    ],
    "unknown_parent": [
        (
            SHOP + "  lines:\n    parent: order  #!\n    records: lines\n    primary_key: id\n",
            "streams.lines.parent",
            "a stream was expected, not order (did you mean 'orders'?)",
        )
    ],
    "circle_of_parents": [
        (
            API + "streams:\n  a:\n    request: GET /<b.id>  #!\n    records: .\n    primary_key: id\n"
            "  b: {parent: c, records: ., primary_key: id}\n  c: {parent: a, records: ., primary_key: id}\n",
            "streams.a.request",
            "a parent outside the circle was expected: a → b → c → a",
        )
    ],
    "unknown_kind": [
        (
            WRITTEN.replace("to: customer", "to: custmer  #!"),
            "streams.orders.map.to",
            "a kind with a file in models/ was expected, not custmer (did you mean 'customer'?)",
        )
    ],
    "unknown_canonical_field": [
        (
            MAPPED + "        emial: email  #!\n",
            "streams.orders.map.fields.emial",
            "a field of customer (email, name or stage) was expected, not emial (did you mean 'email'?)",
        )
    ],
    "unknown_match": [
        (
            WRITTEN + "      match: [[email, name]]  #!\n",
            "streams.orders.map.match[0]",
            "a field that the map fills was expected, not name",
        )
    ],
    "unknown_lookup": [
        (
            MAPPED + "        name: {from: a, lookup: order}  #!\n",
            "streams.orders.map.fields.name.lookup",
            "a stream was expected, not order (did you mean 'orders'?)",
        ),
        (
            MAPPED + "        name: {from: a, lookup: refunds}  #!\n"
            "  refunds: {request: GET /r, records: ., primary_key: a}\n",
            "streams.orders.map.fields.name.lookup",
            "a stream with a `map` was expected: refunds has no canonical records",
        ),
    ],
    "unknown_placeholder": [
        (
            SHOP.replace("api:", "settings: {owner: a}\napi:\n  headers: {O: <owner>}")
            + "    query: {o: <ownr>}  #!\n",
            "streams.orders.query.o",
            "a placeholder or a setting was expected, not <ownr> (did you mean 'owner'?)",
        ),
        (ORDERS + "    request: GET /x/<cursor>  #!\n", "streams.orders.request", "<cursor> needs a `cursor` in its"),
        (
            SHOP + "    get:\n      request: GET /orders/<key.number>  #!\n",
            "streams.orders.get.request",
            "a placeholder or a setting was expected, not <key.number>",
        ),
        (
            WRITTEN + "    write:\n      fields: [email]\n      create:\n        request: POST /c\n"
            "        body: {a: {b: <fields.name>}}  #!\n",
            "streams.orders.write.create.body.a.b",
            "not <fields.name> (did you mean 'fields'?)",
        ),
        (
            SHOP.replace(
                "api:",
                "secrets: {p: {env: P}}\napi:\n  auth:\n    type: session\n    login:\n"
                "      - {request: POST /login, body: {p: $p}, keep: {token: t}}\n"
                "    send: {header X: <kept.tokn>}  #!",
            ),
            "api.auth.send[0]",
            "not <kept.tokn> (did you mean 'kept.token'?)",
        ),
        (
            SIGNED + "  events: {a: {sync: orders}}\n  unsubscribe: DELETE /h/<subscription.id>  #!\n",
            "webhook.unsubscribe.request",
            "not <subscription.id>",
        ),
    ],
    "unquotable_placeholder": [
        (
            WRITTEN + "    write:\n      fields: [email]\n      create: POST /c/<fields>  #!\n",
            "streams.orders.write.create.request",
            "<fields> was expected in a body only",
        )
    ],
    "braces": [
        (
            ORDERS + "    request: GET /orders/{id}  #!\n",
            "streams.orders.request",
            "<id> was expected: placeholders are written <…>, not {id}",
        )
    ],
    "two_parents": [
        (
            SHOP + "  users: {request: GET /u, records: ., primary_key: id}\n  lines:\n"
            "    request: GET /<orders.id>/<users.id>  #!\n    records: .\n    primary_key: id\n",
            "streams.lines.request",
            "one parent was expected, not orders, users",
        )
    ],
    "missing_pagination": [
        (
            SHOP.replace("  pagination: {type: single_page}\n", "").replace("orders:", "orders:  #!"),
            "streams.orders",
            "`pagination` was expected here or under `api`",
        )
    ],
    "sent_twice_by_cursor": [
        (
            SHOP + "    query: {since: <cursor>}\n    cursor:\n      field: at\n      start: 2024-01-01\n"
            "      send: from  #!\n",
            "streams.orders.cursor.send",
            "either `send` or <cursor> in the request was expected, not both",
        )
    ],
    "no_start": [
        (
            SHOP + "    query: {since: <cursor>}\n    cursor: {field: at}  #!\n",
            "streams.orders.cursor",
            "`start` was expected: <cursor> needs a value for the first sync",
        )
    ],
    "step_without_start": [
        (
            SHOP + "    cursor: {field: at, send: from, send_end: to, step: 7d}  #!\n",
            "streams.orders.cursor.step",
            "`start` was expected too",
        )
    ],
    "counted_from_nowhere": [
        (
            SHOP + "    probe: {request: GET /count, query: {since: 1}, read: n}  #!\n",
            "streams.orders.probe",
            "a cursor with `field` was expected",
        ),
        (
            SHOP + "    cursor: {read: next, send: token}\n    probe: {request: GET /count, read: n}  #!\n",
            "streams.orders.probe",
            "a cursor with `field` was expected",
        ),
        (
            SHOP + "    cursor: {field: at, send: from}\n    probe: {request: GET /count, read: n}  #!\n",
            "streams.orders.probe",
            "<cursor> was expected in the call",
        ),
        (
            SHOP + "    fields: {n: {type: string}}\n    cursor: {field: n, send: from}\n"
            "    probe: {request: GET /count/<cursor>, read: n}  #!\n",
            "streams.orders.probe",
            "a cursor of times, dates or whole numbers was expected",
        ),
        (
            SHOP + "  lines:\n    request: GET /orders/<orders.id>/lines\n    records: data\n    primary_key: id\n"
            "    cursor: {field: at, send: from}\n    probe: {request: GET /count/<cursor>, read: n}  #!\n",
            "streams.lines.probe",
            "lines is a list per orders",
        ),
    ],
    "step_through_no_time": [
        (
            SHOP + "    cursor: {field: n, send: from, start: 0, step: 7d}  #!\n    fields: {n: {type: integer}}\n",
            "streams.orders.cursor.step",
            "n is of type integer, not a time",
        )
    ],
    "opaque_with_values": [
        (
            SHOP + "    cursor: {read: next, send: token, format: unix}  #!\n",
            "streams.orders.cursor.format",
            "an opaque one (`read`) has no format",
        )
    ],
    "kept_without_read": [
        (
            SHOP + "    cursor: {field: at, send: a, keep: first}  #!\n",
            "streams.orders.cursor.keep",
            "a cursor with `read`",
        )
    ],
    "unknown_format": [
        (
            SHOP + "    cursor: {field: at, send: a, format: epoch}  #!\n",
            "streams.orders.cursor.format",
            "iso, date, unix, unix_ms or a pattern like %Y-%m-%d was expected, not 'epoch'",
        )
    ],
    "unfit_format": [
        (
            SHOP + "    fields: {at: {type: integer}}\n    cursor: {field: at, send: a, format: iso}  #!\n",
            "streams.orders.cursor.format",
            "no format was expected: at is of type integer, not a time",
        )
    ],
    "unfit_start": [
        (
            SHOP + "    fields: {at: {type: timestamp}}\n    cursor: {field: at, send: a, start: 2024-13-01}  #!\n",
            "streams.orders.cursor.start",
            "an ISO date or time like 2024-01-01 was expected, not '2024-13-01'",
        )
    ],
    "narrowed_snapshot": [
        (
            SHOP + "    cursor: {field: at, send: from, start: 2024-01-01}\n    deletes:\n      snapshot: 7d  #!\n",
            "streams.orders.deletes.snapshot",
            "this one is narrowed by `cursor.start`",
        ),
        (
            SHOP
            + "    query: {a: <cursor>}\n    cursor: {field: at, start: 2024-01-01}\n    deletes: {snapshot: 7d}  #!\n",
            "streams.orders.deletes.snapshot",
            "a full refresh that reads all was expected",
        ),
    ],
    "unordered_window": [
        (
            SHOP + "    pagination: {type: offset, send: skip, max_records: 10000}  #!\n",
            "streams.orders.pagination.max_records",
            "a cursor with `order: asc` was expected in orders",
        )
    ],
    "useless_concurrency": [
        (
            SHOP.replace("  pagination:", "  concurrency: 4  #!\n  pagination:"),
            "api.concurrency",
            "a stream with `pages`, `total` or a parent was expected",
        )
    ],
    "two_in_one_place": [
        (
            SHOP + "    query:\n      page: 1  #!\n    pagination: {type: page_number, send: page}\n",
            "streams.orders.query.page",
            "one value for query page was expected: the page is sent there",
        ),
        (
            SHOP + "    pagination: {type: offset, send: n, size: {send: n, value: 9}}  #!\n",
            "streams.orders.pagination.size.send",
            "a place of its own was expected: the page is sent to query n already",
        ),
        (
            SHOP + "    body: {p: {n: 0}}  #!\n    pagination: {type: offset, send: body p.n}\n",
            "streams.orders.body.p.n",
            "one value for body p.n was expected",
        ),
        (
            SHOP.replace(
                "api:", "secrets: {k: {env: K}}\napi:\n  auth: {type: api_key, send: header x-key, key: $k}  #!"
            )
            + "    cursor: {field: at, send: header X-Key}\n",
            "api.auth.send",
            "the cursor is sent to header x-key already",
        ),
    ],
    "unordered_key": [
        (
            SHOP.replace("primary_key: id", "primary_key: id  #!") + "    fields: {id: {type: json}}\n",
            "streams.orders.primary_key",
            "a field with a plain type was expected: id is declared as json",
        )
    ],
    "undeclared_key": [
        (
            SHOP + "    contract: {new_field: freeze}\n    fields: {id: {type: string}, a: {type: json}}\n"
            "    version: a.b\n    cursor: {field: at, send: from}  #!\n",
            "streams.orders.cursor.field",
            "a declared field was expected: `new_field: freeze` stops at at, not in `fields`",
        )
    ],
    "unmapped_write": [
        (
            WRITTEN + "    write: {fields: [emial], create: POST /c}  #!\n",
            "streams.orders.write.fields[0]",
            "a field of this stream's `map` was expected, not emial (did you mean 'email'?)",
        )
    ],
    "one_way_field": [
        (
            MAPPED + f"        name: {source}\n    write: {{fields: [name], create: POST /c}}  #!\n",
            "streams.orders.write.fields[0]",
            f"a field that can be written back was expected: name {reason}",
        )
        for source, reason in (
            ("{join: [a, b]}", "uses join: the parts can't be told apart again"),
            ("{first: [a, b]}", "uses first: it isn't known which of the paths the value came from"),
            ("{from: a, apply: [trim, {split: [/, 0]}]}", "uses split: the other parts are gone"),
            ("{from: a, apply: [{between: [x, y]}]}", "uses between: what stood around it is gone"),
            ("{from: a, apply: [{truncate: 5}]}", "uses truncate: what was cut off is gone"),
            ("{from: a, apply: [strip_html]}", "uses strip_html: the tags are gone"),
            ("{value: x}", "is a fixed value"),
            ("{from: a, where: {b: 1}, take: c}", "is one item of a list"),
            ("{from: a, values: {x: one, y: one}}", "has several values that become 'one'"),
            ("{from: a, values: {x: one, y: two}, else: one}", "has several values that become 'one', `else` counted"),
            ("a.0.b", "comes from a.0.b, which is no key of an object"),
            ('{from: a, values: {x: 1, y: "1"}}', "has several values that become 1"),
            ("{from: a, apply: [{date: '%d.%m'}]}", "uses date: a time written as %d.%m doesn't name its day"),
            ("{from: a, apply: [{minor_units: cur}]}", "uses minor_units: a new record's cur isn't known"),
        )
    ]
    + [
        (
            WRITTEN + "        name: email.address\n    write: {fields: [email, name], create: POST /c}  #!\n",
            "streams.orders.write.fields[1]",
            "name comes from email.address, which email writes already",
        ),
        (
            MAPPED + "        name: a\n    fields: {a: {type: timestamp, formats: ['%H:%M'], zone: UTC}}\n"
            "    write: {fields: [name], create: POST /c}  #!\n",
            "streams.orders.write.fields[0]",
            "name comes from a: a time written as %H:%M doesn't name its day",
        ),
    ]
    + [
        (
            MAPPED.replace("records: data", "records: {path: data, include: {a: header X}}")
            + "        name: a\n    write: {fields: [name], create: POST /c}  #!\n",
            "streams.orders.write.fields[0]",
            "name comes from a, which lies around the record, not in it",
        )
    ],
    "no_way_to_the_id": [
        (
            WRITTEN + "    write:\n      fields: [email]\n      update: PATCH /contacts  #!\n",
            "streams.orders.write.update",
            "<external_id>, <key.…> or <record.…> was expected",
        )
    ],
    "upsert_by_an_unknown_id": [
        (
            WRITTEN + "    write:\n      fields: [email]\n      upsert: PUT /c/<external_id>  #!\n",
            "streams.orders.write.upsert",
            "what a new record has was expected (<reference>, <fields.…>), not <external_id>; or a `create`",
        )
    ],
    "reread_without_get": [
        (
            WRITTEN + "    write:\n      fields: [email]\n      create: POST /c\n      answer: reread  #!\n",
            "streams.orders.write.answer",
            "a `get` in this stream was expected",
        )
    ],
    "find_of_anything": [
        (
            WRITTEN + "    write:\n      fields: [email]\n      create: POST /c\n"
            "      find: {request: GET /c, records: .}  #!\n",
            "streams.orders.write.find",
            "<reference>, <fields.…> or `match` was expected",
        )
    ],
    "match_of_nothing": [
        (
            WRITTEN + "    write:\n      fields: [email]\n      create: POST /c\n"
            "      find: {request: GET /c, records: ., match: email}  #!\n",
            "streams.orders.write.find.match",
            "a create that sends <reference> was expected",
        )
    ],
    "misplaced_key": [
        (
            WRITTEN + "    write:\n      fields: [email]\n      create: POST /c\n"
            "      idempotency: {send: url, kept: 1d}  #!\n",
            "streams.orders.write.idempotency.send",
            "a header, a query parameter or a place in the body was expected",
        )
    ],
    "batch_without_items": [
        (
            WRITTEN + "    write:\n      fields: [email]\n      batch: {create: POST /c, size: 2, body: {a: b}}  #!\n",
            "streams.orders.write.batch.create",
            "<items> was expected in the body",
        )
    ],
    "unknown_conflict_field": [
        (
            WRITTEN + "    write: {fields: [email], create: POST /c, conflict: {emial: review}}  #!\n",
            "streams.orders.write.conflict.emial",
            "default or a field of `write.fields` was expected, not emial (did you mean 'email'?)",
        )
    ],
    "unknown_create_field": [
        (
            WRITTEN + "    write: {fields: [email], create: POST /c, create_when: {stag: x}}  #!\n",
            "streams.orders.write.create_when",
            "a field of customer was expected, not stag (did you mean 'stage'?)",
        )
    ],
    "unknown_event_stream": [
        (
            SIGNED + "  events:\n    a: {sync: order}  #!\n",
            "webhook.events.a.sync",
            "a stream was expected, not order (did you mean 'orders'?)",
        )
    ],
    "feed_without_start": [
        (
            SHOP + "    deletes:\n      feed: {call: GET /gone/<cursor>, records: ., key: id}  #!\n",
            "streams.orders.deletes.feed",
            "a `cursor` with `start` was expected: <cursor> needs a value for the first sync",
        )
    ],
    "fetch_without_get": [
        (
            SIGNED.replace("    get: GET /orders/<external_id>\n", "")
            + "  events:\n    a: {fetch: orders, key: id}  #!\n",
            "webhook.events.a.fetch",
            "a stream with `get` was expected: orders can't read one record",
        )
    ],
    "unproven_event": [
        (
            HOOK + f"  verify: {{{verify}}}\n  events:\n    a.*: {{fetch: orders, key: id}}\n"
            f"    b: {{{event}}}  #!\n{used}",
            f"webhook.events.b.{event.partition(':')[0]}",
            "`fetch` or `sync` was expected: the signature doesn't cover the body",
        )
        for verify, event, used in (
            ("type: shared_secret, signature: header X, secret: $s", "delete: orders, key: id", ""),
            ("type: hmac, signature: header X, signed: <url>, secret: $s", "upsert: orders, record: data", ""),
        )
    ],
    "unreachable_pattern": [
        (
            SIGNED + "  events:\n    order.*: {sync: orders}\n    order.paid: {sync: orders}  #!\n"
            "    order.**: {sync: orders}\n",
            "webhook.events.order.paid",
            "a place before order.* was expected: order.* matches first",
        ),
        (
            SIGNED + "  events:\n    '**': {sync: orders}\n    a.*: {sync: orders}  #!\n",
            "webhook.events.a.*",
            "a place before ** was expected",
        ),
    ],
    "unknown_signed_word": [
        (
            HOOK + "  verify: {type: hmac, signature: header X, signed: <boddy><body>, secret: $s}  #!\n"
            "  events: {a: {sync: orders}}\n",
            "webhook.verify.signed",
            "body, timestamp, url, method, id, form, header X or json PATH was expected in <…>, not boddy",
        ),
        (
            HOOK + "  verify: {type: hmac, signature: header X, format: v1=<sig>, signed: <body>, secret: $s}  #!\n"
            "  events: {a: {sync: orders}}\n",
            "webhook.verify.format",
            "signature or timestamp was expected in <…>, not sig",
        ),
    ],
    "unreadable_format": [
        (
            HOOK + f"  verify: {{type: hmac, signature: header X, format: '{format}', signed: <timestamp>.<body>, "
            "secret: $s, timestamp: header T}  #!\n  events: {a: {sync: orders}}\n",
            "webhook.verify.format",
            message,
        )
        for format, message in (
            ("v1=", "<signature> was expected in it"),
            ("<timestamp>,v1=<signature>", "a label before each word was expected"),
        )
    ],
    "missing_signed_word": [
        (
            HOOK + f"  verify: {{type: hmac, signature: header X, signed: <{word}>.<body>, secret: $s}}  #!\n"
            "  events: {a: {sync: orders}}\n",
            "webhook.verify.signed",
            message,
        )
        for word, message in (("timestamp", "<timestamp> needs `timestamp`"), ("id", "<id> needs `event_id`"))
    ],
    "written_signing_secret": [
        (
            SIGNED + "  events: {a: {sync: orders}}\n"
            "  handshake: {when: {type: ping}, token: token, secret: hunter2}  #!\n",
            "webhook.handshake.secret",
            "$NAME of a secret was expected",
        ),
        (
            HOOK.replace("    get:", "    headers: {S: $s}\n    get:")
            + "  verify: {type: standard_webhooks, secret: whsec_1}  #!\n  events: {a: {sync: orders}}\n",
            "webhook.verify.secret",
            "$NAME of a secret or <subscription.NAME> was expected",
        ),
    ],
}

EXAMPLES = [pytest.param(*one, id=f"{name}-{n}") for name, cases in CASES.items() for n, one in enumerate(cases)]


@pytest.mark.parametrize(("text", "path", "message"), EXAMPLES)
def test_refused_with_file_and_line(tmp_path: Path, text: str, path: str, message: str) -> None:
    line = next(number for number, one in enumerate(text.splitlines(), 1) if one.endswith("#!"))
    (found,) = problems(tmp_path, text, models__customer=CUSTOMER)
    assert found.startswith(f"connections/shop.yaml:{line}: {path}: ")
    assert message in found


def test_each_refusal_has_its_example() -> None:
    assert sorted(find.__name__ for find in REFUSALS) == sorted(CASES)


ALLOWED = {
    "a page's token over the cursor's place": SHOP
    + "    cursor: {field: at, send: after}\n    pagination: {type: cursor, read: next, send: after}\n",
    "a $id that is a path": SHOP.replace("primary_key: id", "primary_key: $id"),
    "a full request of its own beside start": SHOP
    + "    query: {a: <cursor>}\n    full: {request: GET /all, query: {a: null}}\n"
    "    cursor: {field: at, start: 2024-01-01}\n    deletes: {snapshot: 7d}\n",
    "keys from around the record when fields are closed": SHOP.replace(
        "records: data", "records: {path: data, keyed_by: [id], include: {at: header Date}}"
    )
    + "    contract: {new_field: freeze}\n    version: at\n    fields: {a: {type: string}}\n",
    "a narrower pattern first": SIGNED
    + "  events: {order.paid: {sync: orders}, order.*: {sync: orders}, order.**: {delete: orders, key: id}}\n",
    "a form that is signed": HOOK + "  verify: {type: hmac, signature: header X, signed: <url><form>, secret: $s}\n"
    "  events: {a: {upsert: orders, record: .}}\n",
    "braces in a body": SHOP.replace("GET /orders", "POST /search") + "    body: {q: 'x {id}'}\n",
    "graphql with its own signs": SHOP.replace("GET /orders", "POST /graphql")
    + "    graphql: 'query { a(b: \"<c>\") { d } }'\n",
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED.keys())
def test_not_refused(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_what_is_right_in_a_wrong_file_is_checked_too(tmp_path: Path) -> None:
    text = SHOP.replace("type: single_page", "type: singlepage") + (
        "    get: GET /orders/{id}\n"
        "  refunds: {request: GET /r, records: ., primary_key: id, contract: {new_field: stop}}\n"
        "  lines: {parent: refund, records: ., primary_key: id}\n"
    )
    assert [
        line.split(" was expected")[0].removeprefix("connections/shop.yaml:") for line in problems(tmp_path, text)
    ] == [
        "4: api.pagination: single_page, page_number, offset, cursor, keyset, link_header or link_body",
        "10: streams.orders.get.request: <id>",
        "11: streams.refunds.contract.new_field: evolve, freeze, quarantine or discard_value",
        "12: streams.lines.parent: a stream",
    ]


BY_ITSELF = [
    (SHOP.replace("GET /orders", "GET /orders?a=1  #!"), "streams.orders.request", "no '?' in a path"),
    (
        SHOP.replace("GET /orders", "LIST /orders  #!"),
        "streams.orders.request",
        "a call like 'GET /contacts' was expected",
    ),
    (
        SHOP.replace("orders:", "orders:  #!") + "    parent: orders\n",
        "streams.orders",
        "exactly one of request, parent was expected",
    ),
    (
        SHOP.replace("    records: data\n", "").replace("orders:", "orders:  #!"),
        "streams.orders",
        "exactly one of records, record was expected",
    ),
    (
        SHOP + "    cursor: {field: a, read: b}  #!\n",
        "streams.orders.cursor",
        "exactly one of field, read was expected",
    ),
    (SHOP + "    cursor: {send: a}  #!\n", "streams.orders.cursor", "exactly one of field, read was expected"),
    (
        SHOP + "    cursor: {read: a, send: b, lookback: 5m}  #!\n",
        "streams.orders.cursor",
        "an opaque cursor (`read`) has no lookback",
    ),
    (SHOP + "    pagination: {type: cursor, send: a}  #!\n", "streams.orders.pagination.read", "a required key is"),
    (SHOP + "    pagination: {type: keyset}  #!\n", "streams.orders.pagination.send", "a required key is missing"),
    (SHOP.replace("v1", "v1  #!").replace("//", "//me:pw@"), "api.url", "no user info in a URL"),
    (SHOP.replace("com/v1", "com:99999/v1  #!"), "api.url", "a URL like https://api.example.com/v1 was"),
    (SHOP.replace("https", "ws").replace("v1", "v1  #!"), "api.url", "a URL like https://api.example.com/v1 was"),
    (SHOP.replace("api:", "api:\n  origins: ['https://[']  #!"), "api.origins[0]", "a URL like https://"),
    (
        WRITTEN.replace("email: email", "email: {from: email, apply: [{split: [/]}]}  #!"),
        "streams.orders.map.fields.email.apply[0]",
        "split expects separator and index: {split: [/, -1]}",
    ),
    (
        WRITTEN + "    write: {fields: [email], create: POST /c, conflict: {default: newest_win}}  #!\n",
        "streams.orders.write.conflict.default",
        "(did you mean 'newest_wins'?)",
    ),
    (SHOP + "    deletes: {at_most: 20%}  #!\n", "streams.orders.deletes", "at least one of when, snapshot, feed"),
    (
        SHOP + "    fields: {id: {type: string, min: 1}}  #!\n",
        "streams.orders.fields.id",
        "min doesn't fit type string",
    ),
    (SHOP + "    fields: {at: {type: date, formats: [d.m.y]}}  #!\n", "streams.orders.fields.at.formats", "a pattern"),
    (
        SHOP + "    skip: {a: {is: 1}}  #!\n",
        "streams.orders.skip",
        "one of {present: true}, {contains: text}, {not: x}",
    ),
]


@pytest.mark.parametrize(("text", "path", "message"), BY_ITSELF)
def test_wrong_by_itself(tmp_path: Path, text: str, path: str, message: str) -> None:
    line = next(number for number, one in enumerate(text.splitlines(), 1) if one.endswith("#!"))
    found = [one for one in problems(tmp_path, text) if one.startswith(f"connections/shop.yaml:{line}: {path}: ")]
    assert len(found) == 1
    assert message in found[0]
