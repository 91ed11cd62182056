"""What a stream is about, by its name: things that are sold, appointments, exchange rates. Functions of a number."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import Any

SOLD = re.compile(r"product|item|article|inventory")
FORMS_OF_SOLD = re.compile(r"variant")
APPOINTMENTS = re.compile(r"event|meeting|appointment|calendar")

PLACES = re.compile(r"locations|warehouses|stores")
FEW = 6
"""So many places a seller has, however many records are asked for: their stock is listed place by place."""

COLOURS = ("Black", "Blue", "Green", "Grey", "Red", "Sand", "White", "Yellow")
SIZES = ("Small", "Medium", "Large")
PRODUCTS = (
    ("Desk Lamp", "Lighting"), ("Floor Lamp", "Lighting"), ("Oak Chair", "Furniture"), ("Side Table", "Furniture"),
    ("Travel Mug", "Kitchen"), ("Tea Pot", "Kitchen"), ("Bread Knife", "Kitchen"), ("Wool Scarf", "Clothing"),
    ("Rain Jacket", "Clothing"), ("Backpack", "Bags"), ("Weekend Bag", "Bags"), ("Notebook", "Stationery"),
    ("Fountain Pen", "Stationery"), ("Headphones", "Audio"), ("Linen Cushion", "Textiles"), ("Bath Towel", "Textiles"),
)  # fmt: skip
MAKERS = (
    "Birch & Co",
    "Lantern Works",
    "Maple Home",
    "Nimbus Outdoor",
    "Orchard Living",
    "Quartz Audio",
    "Tundra Goods",
)
PRICES = (4.9, 7.5, 9.9, 12.5, 14.9, 19.9, 24.0, 29.9, 34.5, 39.0, 49.9, 59.0, 79.0, 89.9, 99.0, 129.0, 149.0, 199.0)
MEETINGS = (
    "Weekly planning", "Design review", "Budget review", "Interview with {}", "Lunch with {}", "Call with {}",
    "Release check", "Retrospective", "Contract talk with {}", "Warehouse visit", "Training: shop", "One to one: {}",
)  # fmt: skip
ROOMS = ("Room Alder", "Room Birch", "Room Cedar", "Video call", "Cafeteria", "Main office, 2nd floor")
REPLIES = ("accepted", "accepted", "needsAction", "tentative", "declined")

FIRST_MONDAY = datetime(2025, 1, 6)
WEEKS = 156
"""Appointments lie in three years, whenever the simulator runs: what it serves doesn't depend on the day."""

WHOLE_DAY_EVERY = 12
"""One in so many appointments lasts a whole day and has no hours."""

RATES = {
    "EUR": 1.0, "USD": 1.09, "GBP": 0.85, "JPY": 163.0, "CHF": 0.95, "AUD": 1.64, "CAD": 1.48, "SEK": 11.3,
    "NOK": 11.6, "DKK": 7.46, "PLN": 4.31, "CZK": 25.1, "HUF": 391.0, "RON": 4.98, "BGN": 1.9558, "TRY": 35.0,
    "ZAR": 20.1, "BRL": 5.9, "MXN": 19.4, "INR": 91.0, "CNY": 7.8, "HKD": 8.5, "SGD": 1.45, "KRW": 1470.0,
    "THB": 38.6, "IDR": 17100.0, "MYR": 4.95, "PHP": 62.0, "ILS": 4.0, "NZD": 1.79, "ISK": 149.0,
}  # fmt: skip
"""About what one euro was worth in 2024."""

SWING = 0.03
"""How far a rate moves from its usual value, up and down."""


def product(number: int) -> str:
    return f"{PRODUCTS[number % 16][0]}, {COLOURS[(number >> 8) % 8].lower()}"


def product_text(number: int) -> str:
    name, category = PRODUCTS[number % 16]
    return f"<p>{name} in {COLOURS[(number >> 8) % 8].lower()}. {category} by {maker(number)}, made to last.</p>"


def maker(number: int) -> str:
    return MAKERS[number % 16 % len(MAKERS)]


def handle(number: int, ordinal: int) -> str:
    return f"{product(number).lower().replace(',', '').replace(' ', '-')}-{ordinal + 1}"


def form_of_product(number: int) -> str:
    return f"{SIZES[number % 3]} / {COLOURS[(number >> 8) % 8]}"


def meeting(number: int, person: str) -> str:
    return MEETINGS[number % len(MEETINGS)].format(person)


def starts(number: int) -> datetime:
    """On a working day between 8:00 and 16:45, naive but of UTC."""
    day = timedelta(weeks=number % WEEKS, days=(number >> 10) % 5)
    return FIRST_MONDAY + day + timedelta(hours=8 + (number >> 16) % 9, minutes=(number >> 24) % 4 * 15)


def ends(number: int) -> datetime:
    return starts(number) + timedelta(minutes=(30, 30, 45, 60, 60, 90)[(number >> 32) % 6])


def attendee(email: str, name: str, number: int) -> dict[str, Any]:
    return {"email": email, "displayName": name, "responseStatus": REPLIES[number % len(REPLIES)]}


def rate(base: str, quote: str, day: int) -> float:
    """Units of ``quote`` for one of ``base`` on a day, which is any number that grows by one; moves slowly."""
    value = RATES.get(quote, 10.0) * swing(quote, day) / (RATES.get(base, 10.0) * swing(base, day))
    return float(f"{value:.5g}")


def swing(code: str, day: int) -> float:
    """The euro, against which all are counted, stands still."""
    phase = sum(map(ord, code))
    return 1.0 if code == "EUR" else 1 + SWING * math.sin(day / 37 + phase) + SWING / 10 * math.sin(day * 1.7 + phase)
