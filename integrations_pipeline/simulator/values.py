"""What a field looks like: makers of values that read like real ones, each a pure function of the record's number."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from integrations_pipeline.simulator import subjects
from integrations_pipeline.simulator.subjects import APPOINTMENTS, COLOURS, FORMS_OF_SOLD, PRICES, ROOMS, SOLD
from integrations_pipeline.spec.codes import COUNTRIES, CURRENCIES
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.mapping import Transform

Maker = Callable[[int, int], Any]
"""(ordinal, stamp) → JSON value. The ordinal numbers the stream's records from 0; the stamp is their last change."""

MASK = (1 << 64) - 1
EPOCH = datetime(1970, 1, 1)
"""Without a zone, as all moments in this module: arithmetic on aware ones costs twice as much."""

NULL_EVERY = 24
"""One in so many values of a field that isn't required is null: allowed by the contract, forgotten by many readers."""


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = words("""
    Ada Alan Amara Anna Ben Carla Chen Clara Daniel David Diego Elena Emma Erik Fatima Felix Grace Hana Hugo Ines
    Ivan Jana Jonas Kofi Lea Lena Liam Linus Lucia Maja Marie Mateo Mia Nadia Noah Nora Olga Omar Oscar Paula Priya
    Rosa Samir Sara Sofia Tariq Tom Wei Yuki Zoe
""")
LAST = words("""
    Adler Almeida Andersson Bauer Becker Bernard Brown Chen Costa Dubois Fischer Garcia Haddad Hansen Hoffmann
    Ivanov Jensen Johnson Kaya Kim Klein Kowalski Larsen Lopez Martin Meyer Moreau Müller Nakamura Novak Okafor
    Olsen Patel Peters Quinn Rossi Santos Sato Schmidt Schneider Silva Smith Svensson Tanaka Weber Williams Wolf
    Yilmaz Young Zhang
""")
FIRST_PLAIN = tuple(name.lower() for name in FIRST)
LAST_PLAIN = tuple(name.lower().replace("ü", "ue") for name in LAST)
COMPANIES = words("""
    Acorn Atlas Beacon Birch Cedar Cobalt Compass Coral Delta Ember Falcon Granite Harbor Juniper Lantern Maple
    Meridian Nimbus Orchard Pioneer Quartz Raven Saffron Summit Tundra Vertex Willow Zephyr
""")
FORMS = ("Ltd", "GmbH", "Inc", "SA", "BV", "AB")
CITIES = words("""
    Amsterdam Barcelona Berlin Bordeaux Chicago Copenhagen Dublin Hamburg Helsinki Leeds Lisbon London Lyon Madrid
    Milan Munich Oslo Paris Porto Prague Rome Rotterdam Seattle Stockholm Toronto Vienna Warsaw Zurich
""")
STREETS = ("Station Road", "Main Street", "Mill Lane", "Park Avenue", "Harbour Street", "Church Road", "High Street")
SUBJECTS = ("Invoice", "Delivery", "Login", "Renewal", "Refund", "Meeting", "Order", "Report", "Address", "Contract")
EVENTS = ("is late", "was confirmed", "needs a second look", "was sent twice", "can't be opened", "is ready", "moved")
STATES = ("open", "closed", "pending")
CURRENCY_NAMES = dict(
    line.split(" ", 1)
    for line in """EUR Euro,USD United States Dollar,GBP British Pound,JPY Japanese Yen,CHF Swiss Franc
AUD Australian Dollar,CAD Canadian Dollar,SEK Swedish Krona,NOK Norwegian Krone,DKK Danish Krone,PLN Polish Złoty
CZK Czech Koruna,HUF Hungarian Forint,RON Romanian Leu,BGN Bulgarian Lev,TRY Turkish Lira,ZAR South African Rand
BRL Brazilian Real,MXN Mexican Peso,INR Indian Rupee,CNY Chinese Renminbi Yuan,HKD Hong Kong Dollar
SGD Singapore Dollar,KRW South Korean Won,THB Thai Baht,IDR Indonesian Rupiah,MYR Malaysian Ringgit
PHP Philippine Peso,ILS Israeli New Shekel,NZD New Zealand Dollar,ISK Icelandic Króna""".replace("\n", ",").split(",")
)
MAJORS = tuple(CURRENCY_NAMES)
CURRENCY_CODES = tuple(dict.fromkeys([*MAJORS, *sorted(code for code, digits in CURRENCIES.items() if digits)]))
COUNTRY_CODES = tuple(dict.fromkeys(["DE", "FR", "GB", "US", "NL", "ES", "IT", "SE", "PL", "AT", "CH", *COUNTRIES]))

MONEY = re.compile(r"amount|price|total|cost|balance|value|paid|refunded|fee|tax")
QUANTITY = re.compile(r"quantity|qty|count|size|stock|available|weight")
INFERRED = (
    (
        re.compile(r".*(_at|at_time|time|timestamp)|created|updated|modified|.*(modified|updated|created)date"),
        "timestamp",
    ),
    (re.compile(r".*[a-z]At|.*(Modified|Updated|Created)(Date)?"), "timestamp"),
    (re.compile(r"(.*_)?(date|day|birthday)|.*Date"), "date"),
    (re.compile(r"(is|has)_.*|archived|deleted|active|enabled|verified|paid|test|livemode|closed"), "boolean"),
    (re.compile(r"(.*_)?(amount|quantity|qty|count|position|number)|.*(Amount|Count|Number)"), "integer"),
    (re.compile(r"(.*_)?(price|total|cost|rate|balance|weight)|.*(Price|Total|Rate)"), "decimal"),
)
TRANSFORMED = {
    "minor_units": "integer",
    "integer": "integer",
    "decimal": "decimal",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",
}


def mixer(*salt: Any) -> Callable[[int], int]:
    """A hash of whole numbers, equal for equal salts: Python's own of a pair, since a list is full of them (80 ns)."""
    start = int.from_bytes(blake2b(repr(salt).encode(), digest_size=7).digest(), "big")
    return lambda number: hash((number, start)) & MASK


def inferred(name: str, apply: Sequence[Transform] = ()) -> Field:
    """The field that an undeclared one most likely is, by the mapping's transforms or by its name."""
    for transform in apply:
        if transform.name in TRANSFORMED:
            return Field.model_validate({"type": TRANSFORMED[transform.name]})
    for pattern, kind in INFERRED:
        if pattern.fullmatch(name):
            return Field.model_validate({"type": kind})
    return Field.model_validate({"format": "email"} if "email" in name.lower() else {})


class Values:
    """Makers for one stream. People depend on the seed alone, so that a customer here and a contact there can match."""

    def __init__(self, seed: int, connection: str, stream: str):
        self.seed = seed
        self.salt = (seed, connection, stream)
        self.stream = stream
        self.first = mixer(seed, "first")
        self.last = mixer(seed, "last")

    def pick(self, name: str, pool: Sequence[Any]) -> Maker:
        """One of the pool."""
        mix, size = mixer(*self.salt, name), len(pool)
        return lambda ordinal, stamp: pool[mix(ordinal) % size]

    def maker(self, name: str, field: Field, hints: Sequence[Any] = ()) -> Maker:
        """Makes values of a declared or inferred field; ``hints`` are values a mapping knows."""
        pool = list(field.values or [hint for hint in hints if fits(hint, field)])
        if pool:
            made = self.pick(name, pool)
        else:
            made = {
                "string": self.text,
                "integer": self.integer,
                "decimal": self.decimal,
                "boolean": self.boolean,
                "timestamp": self.time,
                "date": self.time,
                "json": self.document,
            }[field.type](name, field)
        is_scheduled = APPOINTMENTS.search(self.stream) and re.match(r"(start|end)", name)
        return made if field.required or is_scheduled else self.sometimes_null(name, made)

    def sometimes_null(self, name: str, maker: Maker) -> Maker:
        first = mixer(*self.salt, name, "null")(0) % NULL_EVERY
        return lambda ordinal, stamp: None if (ordinal * 7 + first) % NULL_EVERY == 0 else maker(ordinal, stamp)

    def text(self, name: str, field: Field) -> Maker:
        made = self.formatted(name, field.format) or self.named(name)
        limit = field.max_length
        return made if limit is None else lambda ordinal, stamp: made(ordinal, stamp)[:limit]

    def formatted(self, name: str, form: str | None) -> Maker | None:
        """Text of a declared format."""
        mix = mixer(*self.salt, name)
        made: dict[str, Maker] = {
            "email": self.email,
            "url": lambda ordinal, stamp: f"https://example.com/{self.stream}/{mix(ordinal) % 10**8:08d}",
            "uuid": lambda ordinal, stamp: str(UUID(int=(mix(ordinal) << 64) | mix(~ordinal & MASK), version=4)),
            "currency": lambda ordinal, stamp: MAJORS[mix(ordinal) % 8],
            "country": lambda ordinal, stamp: COUNTRY_CODES[mix(ordinal) % 11],
        }
        return made.get(form or "")

    def named(self, name: str) -> Maker:
        """Text by what the field's name says it holds."""
        last = re.sub(r"[^a-z]", "", name.lower())
        for pattern, maker in (*self.by_subject(), *self.by_name()):
            if re.search(pattern, last):
                return maker
        mix = mixer(*self.salt, name)
        return lambda ordinal, stamp: f"{COMPANIES[mix(ordinal) % 28].lower()}-{mix(ordinal) >> 40 & 0xFFFF:04x}"

    def by_subject(self) -> tuple[tuple[str, Maker], ...]:
        """What only streams of a known subject have, one number for all fields of a record: they fit each other."""
        mix = mixer(*self.salt, "subject")
        if FORMS_OF_SOLD.search(self.stream):
            return ((r"title|name$", lambda o, s: subjects.form_of_product(mix(o))),)
        if SOLD.search(self.stream):
            return (
                (r"title|name$", lambda o, s: subjects.product(mix(o))),
                (r"type|category", lambda o, s: subjects.PRODUCTS[mix(o) % 16][1]),
                (r"vendor|brand|manufacturer", lambda o, s: subjects.maker(mix(o))),
                (r"body|description", lambda o, s: subjects.product_text(mix(o))),
                (r"handle|slug", lambda o, s: subjects.handle(mix(o), o)),
            )
        if APPOINTMENTS.search(self.stream):
            return (
                (r"title|summary|subject", lambda o, s: subjects.meeting(mix(o), self.person(o))),
                (r"location|place|room", lambda o, s: ROOMS[mix(o) % 6]),
                (
                    r"body|description",
                    lambda o, s: f"Prepared by {self.person(o)}. Notes are kept in the shared folder.",
                ),
            )
        return ()

    def by_name(self) -> tuple[tuple[str, Maker], ...]:
        mix = mixer(*self.salt, "named")
        return (
            (r"email", self.email),
            (r"firstname|givenname|forename", lambda ordinal, stamp: FIRST[self.first(ordinal) % 50]),
            (r"lastname|surname|familyname", lambda ordinal, stamp: LAST[self.last(ordinal) % 50]),
            (r"company|organi[sz]ation|vendor|supplier|employer", self.company),
            (r"login|username|nickname|handle", lambda o, s: f"{FIRST[self.first(o) % 50].lower()}{o}"),
            (r"phone|mobile|fax", self.phone),
            (r"city|town|locality", lambda o, s: CITIES[mix(o) % 28]),
            (r"street|address|line1", lambda o, s: f"{mix(o) % 199 + 1} {STREETS[mix(o) % 7]}"),
            (r"zip|postal|postcode", lambda o, s: f"{10_000 + mix(o) % 89_999}"),
            (r"countryname", lambda o, s: COUNTRIES[COUNTRY_CODES[mix(o) % 11]]),
            (r"country", lambda o, s: COUNTRY_CODES[mix(o) % 11]),
            (r"currency", lambda o, s: MAJORS[mix(o) % 8].lower()),
            (r"colou?r", lambda o, s: COLOURS[mix(o) % 8]),
            (r"barcode|gtin", lambda o, s: f"40{mix(o) % 10**11:011d}"),
            (r"sku", lambda o, s: f"{COMPANIES[mix(o) % 28][:3].upper()}-{o + 1:05d}"),
            (MONEY.pattern + r"$", lambda o, s: f"{mix(o) % 50_000 / 100 + 1:.2f}"),
            (r"url|link|website|href", lambda o, s: f"https://example.com/{self.stream}/{o + 1}"),
            (r"body|text|description|note|comment|content|message", self.sentences),
            (r"title|subject|summary|headline", self.sentence),
            (r"state|status|stage", lambda o, s: STATES[mix(o) % 3]),
            (r"language|locale", lambda o, s: ("en", "de", "fr", "es")[mix(o) % 4]),
            (r"zone", lambda o, s: ("Europe/Berlin", "Europe/London", "America/New_York")[mix(o) % 3]),
            (r"name$", self.name_of_the_thing()),
        )

    def name_of_the_thing(self) -> Maker:
        """What `name` means depends on what the stream lists."""
        if re.search(r"compan|organi|account|vendor|supplier|shop", self.stream):
            return self.company
        if "currenc" in self.stream:
            codes = CURRENCY_CODES
            return lambda ordinal, stamp: CURRENCY_NAMES.get(code := codes[ordinal % len(codes)], f"Currency {code}")
        return lambda ordinal, stamp: self.person(ordinal)

    def person(self, ordinal: int) -> str:
        return f"{FIRST[self.first(ordinal) % 50]} {LAST[self.last(ordinal) % 50]}"

    def phone(self, ordinal: int, stamp: int) -> str:
        """The same for the same person in every system, as the name and the e-mail are."""
        return f"+49 30 {10_000_000 + (self.first(ordinal) ^ self.last(ordinal)) % 90_000_000}"

    def email(self, ordinal: int, stamp: int) -> str:
        """Unique by the ordinal, since mappings match by it."""
        return f"{FIRST_PLAIN[self.first(ordinal) % 50]}.{LAST_PLAIN[self.last(ordinal) % 50]}{ordinal + 1}@example.com"

    def company(self, ordinal: int, stamp: int) -> str:
        number = self.last(ordinal)
        return f"{COMPANIES[number % 28]} {LAST[(number >> 8) % 50]} {FORMS[(number >> 16) % 6]}"

    def sentence(self, ordinal: int, stamp: int) -> str:
        number = self.first(ordinal ^ 0x5EED)
        return f"{SUBJECTS[number % 10]} {1000 + ordinal} {EVENTS[(number >> 8) % 7]}"

    def sentences(self, ordinal: int, stamp: int) -> str:
        return f"{self.sentence(ordinal, stamp)}. {self.sentence(ordinal + 7, stamp)}."

    def integer(self, name: str, field: Field) -> Maker:
        """Cents, a small quantity, or any number; within the declared bounds."""
        mix = mixer(*self.salt, name)
        last = name.lower()
        high = 50_000 if MONEY.search(last) else 100 if QUANTITY.search(last) else 10_000
        low = field.min if isinstance(field.min, int) else 1 if field.max is None else min(1, field.max)
        span = max((field.max if isinstance(field.max, int) else low + high) - low + 1, 1)
        return lambda ordinal, stamp: low + mix(ordinal) % span

    def decimal(self, name: str, field: Field) -> Maker:
        """Two digits after the point for money, four for rates; exact as a float."""
        if "price" in name.lower() and field.max is None and not field.min:
            return self.pick(name, PRICES)
        mix = mixer(*self.salt, name)
        digits = 10_000 if "rate" in name.lower() else 100
        low = float(field.min) if field.min is not None else 0.0
        span = max(float(field.max) - low, 0.0) if field.max is not None else 2.0 if digits == 10_000 else 500.0
        steps = max(int(span * digits), 1)
        return lambda ordinal, stamp: round(low + (mix(ordinal) % steps + (span > 0)) / digits, 4)

    def boolean(self, name: str, field: Field) -> Maker:
        return self.pick(name, (True, False, False))

    def time(self, name: str, field: Field) -> Maker:
        """A moment of the years 2019 to 2022: what depends on the record's change is made from its stamp instead."""
        form = (field.formats or ["iso"])[0]
        if APPOINTMENTS.search(self.stream) and re.match(r"(start|end)", name):
            return self.scheduled(name.startswith("start"), form, field.type)
        mix = mixer(*self.salt, name)
        start, kind = datetime(2019, 1, 1), field.type
        return lambda ordinal, stamp: time_text(start + timedelta(0, mix(ordinal) % 126_000_000), form, kind)

    def scheduled(self, is_start: bool, form: str, kind: str) -> Maker:
        """The begin or end of an appointment: days for one that lasts whole days, else a time. The other is null."""
        mix = mixer(*self.salt, "schedule")

        def make(ordinal: int, stamp: int) -> Any:
            number = mix(ordinal)
            if (number >> 40) % subjects.WHOLE_DAY_EVERY == 0:
                day = subjects.starts(number) + timedelta(days=0 if is_start else 1)
                return time_text(day, form, kind) if kind == "date" else None
            moment = subjects.starts(number) if is_start else subjects.ends(number)
            return None if kind == "date" else time_text(moment, form, kind)

        return make

    def invited(self, ordinal: int, stamp: int) -> list[dict[str, Any]]:
        """One to four people."""
        mix = mixer(*self.salt, "invited")
        people = [mix(ordinal * 4 + place) % 200 for place in range(mix(ordinal) % 4 + 1)]
        return [subjects.attendee(self.email(one, stamp), self.person(one), mix(one)) for one in dict.fromkeys(people)]

    def document(self, name: str, field: Field) -> Maker:
        if re.search(r"attendees|guests|participants", name):
            return self.invited
        mix = mixer(*self.salt, name)
        return lambda ordinal, stamp: {"id": mix(ordinal) % 1000, "label": COLOURS[mix(ordinal) % 8]}


def time_text(moment: datetime, form: str, kind: str) -> Any:
    """A moment, naive but of UTC, in one of the grammar's formats."""
    if form == "iso" and kind != "date":
        return moment.isoformat(timespec="milliseconds") + "Z"
    if form in ("iso", "date"):
        return moment.date().isoformat()
    if form == "unix":
        return (moment - EPOCH) // timedelta(seconds=1)
    if form == "unix_ms":
        return (moment - EPOCH) // timedelta(milliseconds=1)
    return moment.replace(tzinfo=UTC).strftime(form)


def fits(value: Any, field: Field) -> bool:
    """Whether a mapping's known value has the field's JSON type."""
    wanted = {"string": str, "integer": int, "boolean": bool}.get(field.type)
    return wanted is not None and isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)
