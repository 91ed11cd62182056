"""Sending one change, or several in one request: what is to be sent, the request, and what becomes of the change.

What is sent is fixed, and the time noted, in a commit before the request leaves. Where the answer to a create was lost,
its key, a look at the source, or a person tells whether it was done; it is never sent again blindly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from integrations_pipeline.client import Client
from integrations_pipeline.client.writing import Answered
from integrations_pipeline.client.writing import Change as Request
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import (
    AnswerLost,
    ConfigError,
    Conflict,
    CredentialsError,
    Deferred,
    DestinationError,
    IntegrationError,
    LeaseHeld,
    NotFound,
    PermissionDenied,
)
from integrations_pipeline.spec.limits import PUSH_MERGES, PUSH_TRIES
from integrations_pipeline.store import agreeing, outbox
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.outbox import Change, Payload
from integrations_pipeline.store.outgoing import Compared, compare, recheck, seen_record
from integrations_pipeline.store.sessions import Sessions
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.answers import Reply, land_replies
from integrations_pipeline.sync.run import defect
from integrations_pipeline.sync.shape import shape
from integrations_pipeline.sync.written import Agreed, WrittenStream

NOT_THE_CHANGES_FAULT = (Deferred, CredentialsError, ConfigError, DestinationError)
"""What would meet every change of the connection: nothing was done, and none of them is tried up for it."""

FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(minutes=15)
"""Before a change is tried again whose answer was lost: four times as long after each try."""

SOON = timedelta(seconds=15)
"""When a change goes on whose record could not be landed, since another run holds the stream."""

LATER = timedelta(minutes=5)
"""When it is tried again where the source named no time."""

REFERENCE_WAIT = timedelta(seconds=15)
"""A record that waits for another one is looked at again after this, and later the longer it waits."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A change whose request may leave."""

    change: Change
    request: Request


class Stopped(Exception):
    """The push ends: the error would meet every change of the connection."""

    def __init__(self, error: IntegrationError):
        super().__init__(error.what)
        self.error = error


class Sender:
    """Sends the changes of one stream. Safe to use from several threads."""

    def __init__(self, to: WrittenStream, client: Client, store: Store, sessions: Sessions, clock: Clock, run_id: UUID):
        self.to, self.client, self.store, self.sessions = to, client, store, sessions
        self.clock, self.run_id = clock, run_id
        self.denied: PermissionDenied | None = None

    def send(self, changes: Sequence[Change]) -> list[str]:
        """What became of each, in a word. Raises Stopped; what was left of them is put off."""
        outcomes: list[str] = []
        left = list(changes)
        try:
            ready = []
            while left:
                found = self.prepared(left[0])
                del left[0]
                ready += [found] if isinstance(found, Ready) else []
                outcomes += [] if isinstance(found, Ready) else [found]
            left = [one.change for one in ready]
            for group in requests_of(ready):
                outcomes += self.write_many(group) if len(group) > 1 else [self.write(group[0])]
                left = [one for one in left if one.id not in {each.change.id for each in group}]
        except Stopped as stopped:
            for one in left:
                self.put_off(one, stopped.error)
            raise
        return outcomes

    # What is to be sent.

    def prepared(self, one: Change) -> Ready | str:
        """Nothing has left yet: an error leaves it as it was, or it is given up."""
        try:
            return self.prepare(one)
        except LeaseHeld:
            return "taken_over"
        except IntegrationError as error:
            return self.not_sent(one, error)
        except Exception as caught:  # noqa: BLE001 - a defect of ours costs one change, not the push
            return self.put_off(one, defect(caught), counts=True)

    def prepare(self, one: Change) -> Ready | str:
        if one.tries > PUSH_TRIES and (ended := self.exhausted(one)):
            return ended
        with self.sessions.one() as session:
            if self.to.stream.get is None and one.merges and (told := outbox.unread_conflict(session, one)):
                outbox.put_off(session, one, told, self.clock.now() + LATER)
                return "put_off"
            if one.first_sent_at is None:
                return self.fix(session, one)
            record = seen_record(session, one)
        if self.is_risky(one):
            return self.unsure_create(one, record)
        return self.ready(one, record)

    def is_risky(self, one: Change) -> bool:
        """Whether sending it twice could make two objects."""
        return one.operation == "create" and not self.to.repeatable_create

    def not_sent(self, one: Change, error: IntegrationError) -> str:
        """Nothing was done. What would meet the others too ends the push: raises Stopped."""
        if isinstance(error, ConfigError):
            return self.put_off(one, error)
        if isinstance(error, PermissionDenied):
            return self.not_allowed(one, error)
        if isinstance(error, NOT_THE_CHANGES_FAULT):
            self.put_off(one, error)
            raise Stopped(error)
        return self.refused(one, error)

    def not_allowed(self, one: Change, error: PermissionDenied) -> str:
        """Of this record alone, or of all: what the source takes of the others tells. Raises Stopped at the second
        refusal with nothing taken between."""
        with self.sessions.one() as session:
            alone = outbox.is_taken_since(session, one)
        if alone:
            return self.refused(one, error)
        self.put_off(one, error)
        if self.denied is not None:
            raise Stopped(error)
        self.denied = error
        return "put_off"

    def put_off(self, one: Change, error: IntegrationError, *, counts: bool = False) -> str:
        """As if it had not been leased."""
        at = error.resume_at or self.clock.now() + LATER
        before = replace(one, first_sent_at=one.first_sent_at if one.unsure else None, tries=one.tries + counts)
        try:
            with self.sessions.one() as session:
                outbox.put_off(session, before, self.reason(one, error), at)
        except (LeaseHeld, DestinationError):
            return "taken_over"  # its lease ends by itself
        return "put_off"

    def reason(self, one: Change, error: IntegrationError) -> dict[str, Any]:
        return error.at(one.where).as_dict() | {"refused_at": self.clock.now().isoformat()}

    def fix(self, session: Any, one: Change) -> Ready | str:
        """At its first try: what differs by now is what is sent from now on."""
        found = compare(session, one, self.to.kind, self.to.writeback)
        payload = self.outside_circles(session, one, planned(self.to, one, found))
        record = found.record if found is not None else None
        if payload is not None and (waits := next(iter(unknown_references(payload).items()), None)):
            return self.wait_for(session, one, *waits)
        payload = sendable(self.to, payload, record)
        if payload is None:
            outbox.mark_done(session, one, "nothing_to_send")
            return "nothing_to_send"
        return self.ready(fixed(session, one, payload), record)

    def outside_circles(self, session: Any, one: Change, payload: Payload | None) -> Payload | None:
        """New records that point to each other would wait for ever: such a reference is empty at first, and an update
        brings it once both are there."""
        if payload is None or payload.operation != "create":
            return payload
        circles = {
            name: None
            for name, awaited in unknown_references(payload).items()
            if outbox.leads_back(session, one, awaited)
        }
        return payload._replace(changes={**payload.changes, **circles})

    def ready(self, one: Change, record: dict[str, Any] | None) -> Ready:
        body = self.to.body(one.operation, one.changes, record) if one.operation != "delete" else {}
        return Ready(
            one,
            Request(
                operation=one.operation,  # type: ignore[arg-type]
                fields=body,
                external_id=one.external_id,
                key=self.to.key_of(one.external_id, record),
                record=record,
                reference=str(one.canonical_id),
                idempotency_key=str(one.idempotency_key),
            ),
        )

    def wait_for(self, session: Any, one: Change, name: str, canonical_id: str) -> str:
        waited = max(self.clock.now() - one.edited_at, REFERENCE_WAIT)  # once it was created here, it goes at once
        reason = {
            "class": "reference",
            "message": f"{name} points to a record that {one.connection}/{self.to.writeback.references[name]} doesn't "
            "have yet",
            "where": one.where,
            "who": "nobody",
            "next": "it goes once that record is there",
            "waits_for": canonical_id,
        }
        outbox.put_off(session, one, reason, self.clock.now() + min(waited, LATER))
        return "waits_for_reference"

    # A create whose answer was lost.

    def unsure_create(self, one: Change, record: dict[str, Any] | None) -> Ready | str:
        if self.key_is_kept(one, timedelta()):
            return self.ready(one, record)
        if self.to.write.find is None:
            return self.park(one, "the answer of the source was lost, and it can't be asked whether it was done")
        if (shown := self.shown_at(one)) > self.clock.now():
            return self.wait_until(one, shown)
        ready = self.ready(one, record)
        found = self.client.find(self.to.name, ready.request)
        if found is not None:
            return self.noted(lambda: self.answered(one, Answered(found, None), "read_back"))
        with self.sessions.one() as session:
            payload = Payload(one.operation, one.external_id, one.changes, one.before)
            return replace(ready, change=fixed(session, one, payload))

    def shown_at(self, one: Change) -> datetime:
        """From when the source surely shows what it was sent; before, not finding it says nothing."""
        return (one.first_sent_at or one.edited_at) + timedelta(seconds=self.to.lag_seconds)

    def wait_until(self, one: Change, at: datetime) -> str:
        reason = {
            "class": "unsure",
            "message": "the answer of the source was lost, and it may not show the new record yet (`find.lag`)",
            "where": one.where,
            "who": "nobody",
            "next": "it is looked for then",
        }
        with self.sessions.one() as session:
            outbox.put_off(session, one, reason, at)
        return "unsure"

    def key_is_kept(self, one: Change, after: timedelta) -> bool:
        """Whether the source surely knows the key that long from now."""
        if not self.to.keyed_create or one.first_sent_at is None:
            return False
        return self.clock.now() + after < one.first_sent_at + timedelta(seconds=self.to.kept_seconds)

    def park(self, one: Change, message: str) -> str:
        reason = {
            "class": "unsure",
            "message": message,
            "where": one.where,
            "who": "the person who runs this connection",
            "next": f"look in {one.connection} for the record (`integrations outbox show {one.id}`); then `integrations"
            f" outbox resolve {one.id} --external-id ID` where it is there, `--not-there` where it isn't",
        }
        with self.sessions.one() as session:
            outbox.mark_parked(session, one, reason)
        return "parked"

    def exhausted(self, one: Change) -> str | None:
        """What failed too often while the source answered others is given up."""
        with self.sessions.one() as session:
            if one.unsure and not outbox.is_alive(session, one):
                return None
            if not (one.unsure and self.is_risky(one)):
                error = AnswerLost(f"given up after {PUSH_TRIES} tries that ended without an answer")
                error.who, error.next = "whoever maintains the connector", f"`integrations outbox show {one.id}`"
                outbox.mark_dead(session, one, error.at(one.where).as_dict())
                return "dead"
        return self.park(one, f"{PUSH_TRIES} tries ended without an answer, while the source answered others")

    # The request, and its answer.

    def write(self, ready: Ready) -> str:
        return self.written(ready.change, lambda: self.client.write(self.to.name, ready.request))

    def write_many(self, ready: Sequence[Ready]) -> list[str]:
        """One request. An answer or an error for each; an error of the whole request is everybody's."""
        results: Sequence[Answered | IntegrationError]
        try:
            requests = [one.request for one in ready]
            results = self.client.write_many(self.to.name, ready[0].request.operation, requests)
        except IntegrationError as error:
            results = [error] * len(ready)
        outcomes, stopped = [], None
        for one, result in zip(ready, results, strict=True):
            try:
                outcomes.append(self.written(one.change, told(result)))
            except Stopped as found:
                stopped = found
        if stopped is not None:
            raise stopped
        return outcomes

    def written(self, one: Change, ask: Callable[[], Answered]) -> str:
        found: Answered | Exception
        try:
            found = ask()
        except Exception as caught:  # noqa: BLE001 - a defect of ours costs one change, not the push
            found = caught
        return self.noted(lambda: self.became(one, found))

    def became(self, one: Change, found: Answered | Exception) -> str:
        """What the source's answer makes of it. What isn't told to be a refusal may have been done."""
        if isinstance(found, Answered):
            return self.answered(one, found, "sent")
        if isinstance(found, AnswerLost) or not isinstance(found, IntegrationError):
            return self.lost(one, found if isinstance(found, IntegrationError) else defect(found))
        if isinstance(found, Conflict):
            return self.conflicted(one, found)
        if isinstance(found, NotFound) and one.operation == "delete":
            return self.answered(one, Answered(None, None), "gone")
        return self.not_sent(one, found)

    def noted(self, note: Callable[[], str]) -> str:
        """An error after the answer came must never look as if nothing had been done: the lease ends by itself, and the
        change is unsure then. Raises Stopped where our own database is away."""
        try:
            return note()
        except LeaseHeld:
            return "taken_over"
        except IntegrationError as error:
            raise Stopped(error) from None

    def answered(self, one: Change, answer: Answered, outcome: str) -> str:
        """Settled at once; the answer lands under the stream's lease, now or later."""
        agreed = self.agreed(one, answer.record) if answer.record is not None else None
        external_id = one.external_id or answer.external_id or (agreed.external_id if agreed else None)
        if external_id is None:
            return self.park(one, "the source took it, and its answer doesn't name the new record's id")
        if agreed is not None and agreed.external_id != external_id:
            agreed = None
        one = replace(one, external_id=external_id)
        record = answer.record if agreed is not None and agreed.whole else None

        def note(session: Any) -> None:
            self.settle(session, one, agreed, outcome, answer.call)
            if record is None and one.operation != "delete":
                outbox.mark_done(session, one, outcome)
            else:
                outbox.mark_answered(session, one, record, external_id, outcome)

        try:
            self.sessions.write(note)
        except agreeing.ElsewhereError as error:
            return self.park(one, f"the source took it, and answered with another record: {error}")
        self.denied = None
        return outcome

    def agreed(self, one: Change, record: Any) -> Agreed | None:
        with self.sessions.one() as session:
            before = seen_record(session, one)
        return self.to.agreed(record, self.clock.now(), one.changes, before)

    def settle(self, session: Any, one: Change, agreed: Agreed | None, outcome: str, call: int | None) -> None:
        if one.operation == "delete":
            agreeing.unlink(session, one, call)
            return
        theirs, version = (agreed.theirs, agreed.version) if agreed is not None else (None, None)
        found = self.to.writeback if outcome in ("read_back", "resolved") else None
        key = str(one.external_id)
        agreeing.settle(session, one, external_id=key, theirs=theirs, version=version, found=found, call=call)
        by_now = compare(session, one, self.to.kind, self.to.writeback)
        if by_now is not None and (by_now.changed or by_now.deleted):
            recheck(session, one)

    def lost(self, one: Change, error: IntegrationError) -> str:
        wait = min(FIRST_WAIT * 4 ** min(max(one.tries - 1, 0), 10), LONGEST_WAIT)
        if self.is_risky(one):
            if not self.to.keyed_create and self.to.write.find is None:
                return self.park(
                    one, f"{error.what}: it isn't known whether it was done, and the source can't be asked"
                )
            lag = timedelta(seconds=self.to.lag_seconds)
            if not self.key_is_kept(one, wait + lag):
                wait = max(wait, lag)
        at = max(self.clock.now() + wait, error.resume_at or self.clock.now())
        with self.sessions.one() as session:
            outbox.mark_unsure(session, one, error.at(one.where).as_dict(), at)
        return "unsure"

    def conflicted(self, one: Change, error: Conflict) -> str:
        """The record was changed there meanwhile: it is read again and merged, then what differs still is sent."""
        if one.operation == "create" or one.merges + 1 >= PUSH_MERGES:
            return self.refused(one, error)
        reason, at = self.reason(one, error), None
        try:
            if self.to.stream.get is not None:
                self.read_again(one)
            else:  # the next poll brings it
                at = self.clock.now() + LATER
        except LeaseHeld:
            at, one = self.clock.now() + SOON, replace(one, merges=one.merges - 1)
        except IntegrationError as failed:
            at, one = failed.resume_at or self.clock.now() + LATER, replace(one, merges=one.merges - 1)
        with self.sessions.one() as session:
            outbox.merge_again(session, one, reason, at)
        return "merged_again"

    def read_again(self, one: Change) -> None:
        """Lands the record as it is now, and shapes it. Raises LeaseHeld while another run holds the stream."""
        with self.sessions.one() as session:
            record = seen_record(session, one)
        at = self.clock.now()
        external_id = str(one.external_id)
        found = self.client.get(self.to.name, external_id, self.to.key_of(one.external_id, record))
        names = (one.connection, one.stream, self.run_id)
        with self.to.landing, take_lease(self.store.connect, *names) as lease:
            lease.start_run("push", at)
            land_replies(lease, self.to, [Reply(external_id, found, at)])
            shape(lease, self.to.stream, self.to.kind)
            lease.finish_run("succeeded")

    # What can't be done.

    def refused(self, one: Change, error: IntegrationError) -> str:
        """For good: a dead letter. Of a create that may have been done before, a refusal proves nothing."""
        if one.unsure and self.is_risky(one):
            return self.park(one, f"an earlier answer was lost; sent again, the source refused: {error.what}")
        with self.sessions.one() as session:
            outbox.mark_dead(session, one, error.at(one.where).as_dict())
        return "dead"


def requests_of(ready: Sequence[Ready]) -> list[list[Ready]]:
    """Those that one request may carry together: of one operation, and of none an earlier answer was lost."""
    alone = [[one] for one in ready if one.change.unsure]
    groups: dict[str, list[Ready]] = {}
    for one in ready:
        if not one.change.unsure:
            groups.setdefault(one.request.operation, []).append(one)
    return alone + list(groups.values())


def told(result: Answered | IntegrationError) -> Callable[[], Answered]:
    def say() -> Answered:
        if isinstance(result, IntegrationError):
            raise result
        return result

    return say


def fixed(session: Any, one: Change, payload: Payload) -> Change:
    """The change as it is sent from now on."""
    at = outbox.fix(session, one, payload)
    return replace(
        one,
        operation=payload.operation,
        external_id=payload.external_id,
        changes=dict(payload.changes),
        before=dict(payload.before) if payload.before is not None else None,
        first_sent_at=at,
    )


def planned(to: WrittenStream, one: Change, found: Compared | None) -> Payload | None:
    """What is to be sent by now; None where nothing is."""
    if found is None or found.parked:
        return None
    if found.base is None:
        wanted = to.write.create_when is None or to.write.create_when.holds(found.canonical)
        if one.operation != "create" or found.deleted or not wanted:
            return None
        return Payload("create", None, found.ours, None)
    if found.deleted:
        return Payload("delete", found.external_id, {}, found.base) if to.writeback.deletes else None
    if not found.changed or not to.writeback.updates:
        return None
    before = {name: found.base.get(name) for name in found.changed}
    return Payload("update", found.external_id, values_of(to, found, found.base), before)


def values_of(to: WrittenStream, found: Compared, base: Mapping[str, Any]) -> dict[str, Any]:
    """What changed; of what replaces the whole record also all else, as the source has it."""
    if not to.write.replaces("update"):
        return {name: found.ours[name] for name in found.changed}
    own = {*found.changed, *(found.sent or ())}
    return {name: value if name in own or name not in base else base[name] for name, value in found.ours.items()}


def sendable(to: WrittenStream, payload: Payload | None, record: dict[str, Any] | None) -> Payload | None:
    """Without what has no value of theirs; None where nothing is left. Raises DataError as ``Backwards`` does."""
    if payload is None or payload.operation == "delete":
        return payload
    known = {name: value for name, value in payload.changes.items() if name not in unknown_references(payload)}
    left_out = to.backwards.payload(known, record).left_out
    changes = {name: value for name, value in payload.changes.items() if name not in left_out}
    return payload._replace(changes=changes) if changes else None


def unknown_references(payload: Payload) -> dict[str, str]:
    """Fields, and the canonical ids they point to, that the source has no ids for yet."""
    return {
        name: str(value["canonical_id"])
        for name, value in payload.changes.items()
        if isinstance(value, dict) and value.keys() == {"canonical_id"}
    }
