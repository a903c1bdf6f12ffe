"""The cluster's clock, learnt from pairs of local text and epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrestfs.api.zone import ClusterZone

WINTER, SUMMER = 1705320000, 1719828000


def local(epoch: int, zone: str) -> str:
    return datetime.fromtimestamp(epoch, ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M:%S")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Sets this machine's zone by `setenv("TZ", …)` and `time.tzset()`."""
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


def in_zone(here: pytest.MonkeyPatch, name: str) -> None:
    here.setenv("TZ", name)
    time.tzset()


def test_the_configured_zone_is_used_at_once() -> None:
    zone = ClusterZone("America/Chicago")
    assert zone.to_epoch(local(SUMMER, "America/Chicago")) == SUMMER
    assert zone.to_epoch(local(WINTER, "America/Chicago")) == WINTER
    assert not zone.observed


def test_the_machines_zone_is_the_first_guess(here: pytest.MonkeyPatch) -> None:
    in_zone(here, "Asia/Tokyo")
    assert ClusterZone().to_epoch(local(SUMMER, "Asia/Tokyo")) == SUMMER


def test_an_unknown_configured_zone_is_no_disaster(here: pytest.MonkeyPatch) -> None:
    in_zone(here, "UTC")
    assert ClusterZone("Middle/Earth").to_epoch("1970-01-01T00:00:10") == 10


@pytest.mark.parametrize("real", ["Europe/Zurich", "America/New_York", "Asia/Tokyo", "UTC"])
@pytest.mark.parametrize("guess", ["Australia/Sydney", "UTC", "Asia/Kolkata"])
def test_a_wrong_guess_is_corrected_by_one_observation(real: str, guess: str) -> None:
    zone = ClusterZone(guess)
    assert zone.observe(local(SUMMER, real), SUMMER)
    assert zone.observed
    for epoch in (SUMMER, SUMMER + 86400, SUMMER - 5 * 86400):
        assert zone.to_epoch(local(epoch, real)) == epoch


ZONES = [
    "Europe/Zurich",
    "Europe/London",
    "Europe/Helsinki",
    "America/New_York",
    "America/Los_Angeles",
    "America/St_Johns",
    "Australia/Sydney",
    "Australia/Adelaide",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "UTC",
]


@pytest.mark.parametrize("real", ZONES)
def test_a_summer_and_a_winter_tell_the_zone(real: str, here: pytest.MonkeyPatch) -> None:
    in_zone(here, "UTC")
    zone = ClusterZone()
    zone.observe(local(WINTER, real), WINTER)
    zone.observe(local(SUMMER, real), SUMMER)
    for day in range(0, 365, 30):
        epoch = WINTER + day * 86400
        if _near_a_change(epoch, real):
            continue
        assert zone.to_epoch(local(epoch, real)) == epoch


def _near_a_change(epoch: int, name: str) -> bool:
    """Countries of one offset differ by some weeks in when they change."""
    around = (epoch + days * 86400 for days in (-28, 28))
    return len({datetime.fromtimestamp(at, ZoneInfo(name)).utcoffset() for at in around}) > 1


def test_the_machines_zone_is_preferred_among_those_that_fit(here: pytest.MonkeyPatch) -> None:
    in_zone(here, "Europe/Berlin")
    zone = ClusterZone("UTC")
    zone.observe(local(SUMMER, "Europe/Berlin"), SUMMER)
    assert "this machine" in str(zone)


def test_daylight_saving_is_more_likely_than_none(here: pytest.MonkeyPatch) -> None:
    in_zone(here, "Asia/Tokyo")
    zone = ClusterZone()
    zone.observe(local(SUMMER, "Europe/Zurich"), SUMMER)
    assert zone.to_epoch(local(WINTER, "Europe/Zurich")) == WINTER


def test_an_hour_that_occurs_twice() -> None:
    """Both instants are read as the earlier one; neither as anything else."""
    first, second = 1729988999, 1729992599
    zone = ClusterZone("Europe/Zurich")
    assert local(first, "Europe/Zurich") == local(second, "Europe/Zurich")
    assert zone.to_epoch(local(first, "Europe/Zurich")) == first
    assert zone.to_epoch(local(second, "Europe/Zurich")) == second - 3600
    # Both are consistent with the zone, so neither makes it doubt.
    assert zone.observe(local(first, "Europe/Zurich"), first)
    assert zone.observe(local(second, "Europe/Zurich"), second)
    assert str(zone) == "Europe/Zurich"


def test_around_a_change() -> None:
    zone = ClusterZone("Europe/Zurich")
    for epoch in (1711846799, 1711846800):
        assert zone.to_epoch(local(epoch, "Europe/Zurich")) == epoch


def test_what_changed_in_between_teaches_nothing() -> None:
    zone = ClusterZone("Europe/Zurich")
    assert not zone.observe(local(SUMMER, "Europe/Zurich"), SUMMER + 17)
    assert not zone.observe(local(SUMMER, "Europe/Zurich"), SUMMER + 86400 * 3)
    assert not zone.observed
    assert zone.to_epoch(local(SUMMER, "Europe/Zurich")) == SUMMER


def test_a_poisoned_observation_is_outvoted_by_the_next(here: pytest.MonkeyPatch) -> None:
    in_zone(here, "UTC")
    zone = ClusterZone("Europe/Zurich")
    zone.observe(local(SUMMER, "Europe/Zurich"), SUMMER + 900)
    zone.observe(local(SUMMER, "Europe/Zurich"), SUMMER)
    assert zone.to_epoch(local(SUMMER, "Europe/Zurich")) == SUMMER


def test_an_offset_that_no_zone_has_is_taken_as_it_is() -> None:
    zone = ClusterZone("UTC")
    text = datetime.fromtimestamp(SUMMER + 13 * 3600 + 900, timezone.utc).isoformat()[:19]
    assert zone.observe(text, SUMMER)
    assert zone.to_epoch(text) == SUMMER


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-07-01T12:00:00+02:00", "2024-13-01T00:00:00"]
)
def test_what_is_no_listing_time(text: str) -> None:
    zone = ClusterZone("UTC")
    with pytest.raises(ValueError):
        zone.to_epoch(text)
    assert not zone.observe(text, SUMMER)


@given(st.integers(0, 2**32), st.sampled_from(ZONES))
def test_any_observation_is_honoured(epoch: int, name: str) -> None:
    zone = ClusterZone("Pacific/Kiritimati")
    text = local(epoch, name)
    if zone.observe(text, epoch):
        assert zone.to_epoch(text) in (epoch, epoch - 3600, epoch - 1800)


def test_five_thousand_entries_are_converted_quickly() -> None:
    zone = ClusterZone("Europe/Zurich")
    start = time.perf_counter()
    for _ in range(5000):
        zone.to_epoch("2024-07-01T12:00:00")
    assert time.perf_counter() - start < 0.5
