"""The cache of attributes, listings and absences, on a clock that the test moves."""

from __future__ import annotations

import random

import pytest

from firecrestfs.cache import metadata
from firecrestfs.cache.metadata import MetadataCache
from firecrestfs.model import Attr, DirEntry

from .tools import FakeClock, make_attr, together


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cache(clock: FakeClock) -> MetadataCache:
    return MetadataCache(ttl=30.0, negative_ttl=5.0, clock=clock)


def put(cache: MetadataCache, directory: str, **entries: Attr) -> bool:
    rows = [DirEntry(name, attr) for name, attr in entries.items()]
    return cache.put_listing(directory, rows, cache.mark())


# -- ages ----------------------------------------------------------------------------------------


def test_nothing_is_known_at_first(cache: MetadataCache) -> None:
    assert cache.lookup("/d/x") is None
    assert cache.listing("/d") is None
    assert cache.last_known("/d/x") is None


def test_a_listing_answers_for_its_entries_until_the_ttl(
    cache: MetadataCache, clock: FakeClock
) -> None:
    attr = make_attr(1)
    put(cache, "/d", x=attr)
    clock.advance(30)
    assert cache.lookup("/d/x") is attr
    assert cache.listing("/d") == {"x": attr}
    clock.advance(0.1)
    assert cache.lookup("/d/x") is None
    assert cache.listing("/d") is None


def test_what_is_too_old_to_be_believed_is_still_known(
    cache: MetadataCache, clock: FakeClock
) -> None:
    put(cache, "/d", x=make_attr(1))
    clock.advance(1e6)
    assert cache.last_known("/d/x") == make_attr(1)


def test_a_listing_tells_absence_for_the_shorter_time(
    cache: MetadataCache, clock: FakeClock
) -> None:
    put(cache, "/d", x=make_attr())
    clock.advance(5)
    assert cache.lookup("/d/y") is False
    clock.advance(0.1)
    assert cache.lookup("/d/y") is None
    assert isinstance(cache.lookup("/d/x"), Attr)


def test_a_lookup_tells_absence_for_the_shorter_time(
    cache: MetadataCache, clock: FakeClock
) -> None:
    cache.put_attr("/d/y", None, cache.mark())
    clock.advance(5)
    assert cache.lookup("/d/y") is False
    clock.advance(0.1)
    assert cache.lookup("/d/y") is None


def test_the_younger_of_lookup_and_listing_is_believed(
    cache: MetadataCache, clock: FakeClock
) -> None:
    put(cache, "/d", x=make_attr(1))
    clock.advance(1)
    cache.put_attr("/d/x", make_attr(2), cache.mark())
    assert cache.lookup("/d/x") == make_attr(2)
    clock.advance(1)
    put(cache, "/d", x=make_attr(3))
    assert cache.lookup("/d/x") == make_attr(3)
    clock.advance(1)
    put(cache, "/d")
    assert cache.lookup("/d/x") is False


def test_time_asleep_counts(cache: MetadataCache, clock: FakeClock) -> None:
    """The clock is the one that goes on in a suspend, so a night makes everything stale."""
    assert MetadataCache().clock is metadata.boottime
    put(cache, "/d", x=make_attr())
    clock.advance(8 * 3600)
    assert cache.lookup("/d/x") is None


# -- own changes ---------------------------------------------------------------------------------


def test_an_own_change_shows_in_lookup_and_listing(cache: MetadataCache) -> None:
    put(cache, "/d", x=make_attr(1))
    cache.changed("/d/x", make_attr(2))
    cache.changed("/d/new", make_attr(3))
    assert cache.lookup("/d/x") == make_attr(2)
    assert cache.listing("/d") == {"x": make_attr(2), "new": make_attr(3)}


def test_an_own_removal_shows(cache: MetadataCache) -> None:
    put(cache, "/d", x=make_attr())
    cache.changed("/d/x", None)
    assert cache.lookup("/d/x") is False
    assert cache.listing("/d") == {}


def test_a_removed_directory_takes_its_listing_along(cache: MetadataCache) -> None:
    put(cache, "/d")
    cache.changed("/d", None)
    assert cache.listing("/d") is None


def test_an_own_change_does_not_make_a_listing_younger(
    cache: MetadataCache, clock: FakeClock
) -> None:
    put(cache, "/d", x=make_attr())
    clock.advance(29)
    cache.changed("/d/y", make_attr())
    clock.advance(2)
    assert cache.listing("/d") is None
    assert cache.lookup("/d/y") == make_attr()


def test_a_listing_that_was_handed_out_never_changes(cache: MetadataCache) -> None:
    put(cache, "/d", x=make_attr(1))
    before = cache.listing("/d")
    cache.changed("/d/x", None)
    assert before == {"x": make_attr(1)}


def test_a_fill_that_began_before_an_own_change_is_dropped(cache: MetadataCache) -> None:
    mark = cache.mark()
    cache.changed("/d/x", make_attr(2))
    assert not cache.put_listing("/d", [DirEntry("x", make_attr(1))], mark)
    assert not cache.put_attr("/d/x", make_attr(1), mark)
    assert cache.lookup("/d/x") == make_attr(2)


def test_a_change_elsewhere_lets_a_fill_in(cache: MetadataCache) -> None:
    mark = cache.mark()
    cache.changed("/other/x", make_attr(2))
    assert cache.put_listing("/d", [DirEntry("x", make_attr(1))], mark)


def test_a_mark_taken_after_a_change_fills(cache: MetadataCache) -> None:
    cache.changed("/d/x", make_attr(2))
    assert put(cache, "/d", x=make_attr(1))


# -- forgetting ----------------------------------------------------------------------------------


def test_invalidate_forgets_entry_and_the_listing_that_names_it(cache: MetadataCache) -> None:
    put(cache, "/d", x=make_attr())
    put(cache, "/d/x", inner=make_attr())
    mark = cache.mark()
    cache.invalidate("/d/x")
    assert cache.lookup("/d/x") is None
    assert cache.listing("/d") is None
    assert cache.listing("/d/x") is None
    assert not cache.put_listing("/d", [], mark)
    assert not cache.put_listing("/d/x", [], mark)


def test_invalidate_below_leaves_neighbours(cache: MetadataCache) -> None:
    put(cache, "/d", x=make_attr())
    put(cache, "/d/x/y", z=make_attr())
    put(cache, "/d/xy", z=make_attr())
    cache.put_attr("/d/x", make_attr(), cache.mark())
    mark = cache.mark()
    cache.invalidate_below("/d/x")
    assert cache.lookup("/d/x") is None
    assert cache.listing("/d/x/y") is None
    assert cache.listing("/d/xy") is not None
    assert not cache.put_listing("/d/x/y", [], mark)


def test_invalidate_below_the_root_forgets_everything(cache: MetadataCache) -> None:
    put(cache, "/", d=make_attr())
    put(cache, "/d", x=make_attr())
    cache.invalidate_below("/")
    assert cache.last_known("/d/x") is None
    assert cache.listing("/") is None


# -- bounds --------------------------------------------------------------------------------------


def test_the_least_recently_used_listings_go_first(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(metadata, "_MAX_NAMES", 100)
    cache = MetadataCache(clock=clock)
    for number in range(50):
        put(cache, f"/{number}", **{f"n{each}": make_attr() for each in range(9)})
        cache.listing("/0")
    kept = [number for number in range(50) if cache.listing(f"/{number}") is not None]
    assert 0 in kept
    assert 49 in kept
    assert len(kept) == 10


def test_a_listing_over_the_bound_is_not_kept_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(metadata, "_MAX_NAMES", 10)
    cache = MetadataCache(clock=clock)
    put(cache, "/small", x=make_attr())
    put(cache, "/big", **{f"n{each}": make_attr() for each in range(10)})
    assert cache.listing("/big") is None
    assert cache.listing("/small") is not None


def test_forgetting_the_oldest_change_refuses_the_fills_it_guarded(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(metadata, "_MAX_SINGLES", 3)
    cache = MetadataCache(clock=clock)
    mark = cache.mark()
    for number in range(10):
        cache.changed(f"/{number}/x", make_attr())
    assert not cache.put_listing("/0", [], mark)
    assert put(cache, "/0")


# -- many threads --------------------------------------------------------------------------------


def test_many_threads_never_see_a_fill_older_than_their_own_change(clock: FakeClock) -> None:
    cache = MetadataCache(clock=clock)

    def own_file(number: int) -> None:
        dice = random.Random(number)
        path = f"/d/{number}"
        for turn in range(300):
            mark = cache.mark()
            stale = cache.last_known(path)
            cache.changed(path, make_attr(turn))
            if dice.random() < 0.5:
                assert not cache.put_attr(path, stale, mark)
            if dice.random() < 0.1:
                cache.invalidate_below(f"/other{number}")
            found = cache.lookup(path)
            assert isinstance(found, Attr)
            assert found.size == turn

    assert together(8, own_file) == [None] * 8


# -- when nobody can be asked ----------------------------------------------------------------------


def test_what_nobody_can_be_asked_for_is_told_as_it_was(
    cache: MetadataCache, clock: FakeClock
) -> None:
    attr = make_attr(3)
    put(cache, "/d", f=attr)
    cache.put_attr("/e/single", attr, cache.mark())
    cache.put_attr("/e/absent", None, cache.mark())
    clock.advance(100_000)
    assert cache.listing("/d") is None
    assert cache.last_listing("/d") == {"f": attr}
    assert cache.lookup("/d/f") is None
    assert cache.last_lookup("/d/f") == attr
    assert cache.last_lookup("/e/single") == attr
    # Absent from a listing is known to be absent; never asked for is unknown.
    assert cache.last_lookup("/d/g") is False
    assert cache.last_lookup("/e/absent") is False
    assert cache.last_lookup("/e/other") is None
    assert cache.last_listing("/e") is None


def test_after_expiry_everything_is_asked_anew_and_nothing_forgotten(
    cache: MetadataCache, clock: FakeClock
) -> None:
    attr = make_attr(3)
    put(cache, "/d", f=attr)
    cache.put_attr("/e/single", attr, cache.mark())
    cache.expire()
    assert cache.listing("/d") is None
    assert cache.lookup("/d/f") is None
    assert cache.lookup("/d/g") is None
    assert cache.lookup("/e/single") is None
    assert cache.last_listing("/d") == {"f": attr}
    clock.advance(1)
    put(cache, "/d", f=attr)
    assert cache.lookup("/d/f") == attr


def test_what_was_invalidated_is_not_known_any_more(cache: MetadataCache) -> None:
    put(cache, "/d", f=make_attr())
    cache.invalidate_below("/")
    assert cache.last_lookup("/d/f") is None
    assert cache.last_listing("/d") is None
