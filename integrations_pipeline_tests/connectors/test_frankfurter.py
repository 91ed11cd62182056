"""Rates: windows from the start to today, then only the tail."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from integrations_pipeline.simulator.asked import Asked
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline_tests.connectors.account import open_account
from integrations_pipeline_tests.journeys.conftest import House


def windows(requests: list[Asked]) -> list[tuple[date, date]]:
    """What the requests for rates asked for."""
    pairs = [one.path.rsplit("/", 1)[1].split("..") for one in requests if one.stream == "rates"]
    return [(date.fromisoformat(begin), date.fromisoformat(end)) for begin, end in pairs]


def days(source: Simulation) -> list[str]:
    return sorted({row["date"] for row in source.contents("rates")})


def test_windows_walk_to_today_and_then_only_the_tail_is_asked_for(house: House) -> None:
    source = open_account(house, "frankfurter", records=300)
    today = datetime.now(UTC).date()
    house.sync("frankfurter", "rates")
    walked = windows(source.requests())
    assert walked[0][0] == date(2024, 1, 1)
    assert walked[-1][1] >= today
    for (_, end), (begin, _) in pairwise(walked):
        assert begin <= end + timedelta(days=1)
    house.assert_whole("frankfurter", "rates")

    last = date.fromisoformat(days(source)[-1])
    source.insert("rates")
    mended = f'["EUR","{last - timedelta(days=5)}","USD"]'
    source.update("rates", [mended], {"rate": 1.2345})
    asked = len(source.requests())
    counts = house.sync("frankfurter", "rates")["rates"]
    assert windows(source.requests()[asked:])[0][0] == last - timedelta(days=7)
    assert len(source.requests()) - asked == 1
    assert (counts["created"], counts["updated"]) == (1, 1)
    house.assert_whole("frankfurter", "rates")
    kept = house.value("SELECT rate FROM canonical.exchange_rate WHERE quote = 'USD' AND day = %s", last - timedelta(5))
    assert float(kept) == 1.2345
