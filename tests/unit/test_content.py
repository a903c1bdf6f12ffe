"""The local copies of a mount: room, eviction, and what is never evicted."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.content import ContentCache

from .tools import make_attr, together

KIB = 1024


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "cache", tmp_path / "state"


def make_cache(places: tuple[Path, Path], limit: int = 10 * KIB) -> ContentCache:
    return ContentCache(*places, limit)


def fetched(cache: ContentCache, size: int = KIB) -> CachedFile:
    with cache.room(size):
        file = cache.new(make_attr(size))
        file.fill(bytes(size), make_attr(size))
    return file


def make_room(cache: ContentCache, size: int, file: CachedFile | None = None) -> None:
    """Ask for room, and don't take it."""
    with cache.room(size, file):
        pass


def evicted(files: list[CachedFile]) -> list[int]:
    return [number for number, file in enumerate(files) if not file.complete]


def test_the_least_recently_used_clean_copies_go_first(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    files = [fetched(cache) for _ in range(10)]
    cache.used(files[0])
    make_room(cache, 2 * KIB)
    assert evicted(files) == [1, 2]


def test_the_bound_holds_at_every_moment(places: tuple[Path, Path]) -> None:
    """With what is about to come: who asks for room fills it."""
    cache = make_cache(places)
    for size in (3, 4, 5, 1, 10, 2, 9, 9, 1):
        fetched(cache, size * KIB)
        kept = sum(each.stat().st_size for each in (places[0] / "files").iterdir())
        assert kept <= 10 * KIB


def test_room_that_was_asked_for_in_vain_does_not_count_for_ever(
    places: tuple[Path, Path],
) -> None:
    """A fetch that failed took nothing."""
    cache = make_cache(places)
    files = [fetched(cache) for _ in range(5)]
    for _ in range(100):
        make_room(cache, 4 * KIB)
    assert evicted(files) == []


def test_what_fits_evicts_nothing(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    files = [fetched(cache) for _ in range(9)]
    make_room(cache, KIB)
    assert evicted(files) == []


def test_open_and_dirty_copies_are_never_evicted(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    files = [fetched(cache) for _ in range(10)]
    files[0].opened(False)
    files[1].opened(True)
    files[1].write(b"x", 0)
    files[1].released(True)
    files[2].opened(True)
    files[2].write(b"x", 0)
    files[2].released(True)
    files[2].begin_store(1 << 30)
    make_room(cache, 7 * KIB)
    assert evicted(files) == list(range(3, 10))


def test_an_evicted_copy_can_be_fetched_again(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    file = fetched(cache)
    make_room(cache, 10 * KIB)
    assert file.disk_bytes == 0
    file.fill(b"again", make_attr(5))
    file.opened(False)
    assert file.read(9, 0) == b"again"


def test_a_dropped_copy_is_gone_from_disk_and_account(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    file = fetched(cache, 9 * KIB)
    other = fetched(cache)
    cache.drop(file)
    make_room(cache, 9 * KIB)
    assert other.complete
    assert len(list((places[0] / "files").iterdir())) == 1


def test_only_this_user_gets_at_the_bytes(places: tuple[Path, Path]) -> None:
    make_cache(places)
    for place in places:
        assert os.stat(place / "files").st_mode & 0o077 == 0


def test_directories_that_others_can_read_are_closed(places: tuple[Path, Path]) -> None:
    for place in places:
        (place / "files").mkdir(parents=True)
        (place / "files").chmod(0o755)
    make_cache(places)
    for place in places:
        assert os.stat(place / "files").st_mode & 0o077 == 0


def test_clean_copies_of_an_earlier_mount_go_and_dirty_ones_stay(
    places: tuple[Path, Path],
) -> None:
    cache = make_cache(places)
    fetched(cache)
    dirty = cache.new(make_attr())
    dirty.opened(True)
    dirty.create(0o644)
    dirty.write(b"unstored", 0)
    dirty.released(True)
    make_cache(places)
    assert list((places[0] / "files").iterdir()) == []
    assert [each.read_bytes() for each in (places[1] / "files").iterdir()] == [b"unstored"]


@pytest.mark.parametrize("full", ["state", "cache"])
def test_a_full_disk_is_told_before_bytes_are_taken(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    cache = make_cache(places)
    real = os.statvfs

    def statvfs(path: Any) -> Any:
        if full in Path(os.fspath(path)).parts:
            return SimpleNamespace(f_bavail=1, f_frsize=4096)
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(OSError, match=f"--{full}-dir") as info:
        make_room(cache, KIB)
    assert info.value.errno == errno.ENOSPC


def test_clean_copies_go_before_the_disk_is_full(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others fill the disk too: what could be had again must not stand in the way of a save."""
    cache = make_cache(places, 100 * KIB)
    clean = [fetched(cache) for _ in range(20)]
    disk = sum(each.disk_bytes for each in clean) + (64 << 20) - 8 * KIB

    def statvfs(path: Any) -> Any:
        free = disk - sum(each.disk_bytes for each in clean)
        return SimpleNamespace(f_bavail=free // 512, f_frsize=512)

    monkeypatch.setattr(os, "statvfs", statvfs)
    time.sleep(0.3)  # so long the disk isn't asked again
    make_room(cache, 0)
    left = [each for each in clean if each.complete]
    # The oldest went, and no more of them than had to.
    assert 0 < len(left) < 20
    assert left == clean[-len(left) :]
    assert sum(each.disk_bytes for each in clean) <= disk - (64 << 20)


def test_making_room_stays_quick_with_many_copies(places: tuple[Path, Path]) -> None:
    """`grep -r` over a large tree asks for room before each of its files."""
    cache = make_cache(places, 1 << 40)
    for _ in range(20_000):
        cache.new(make_attr())
    before = os.times()
    for _ in range(200):
        make_room(cache, KIB)
    spent = os.times().user - before.user
    assert spent / 200 < 0.001, f"{spent / 200 * 1000:.1f} ms each"


def test_many_threads_share_the_room(places: tuple[Path, Path]) -> None:
    cache = make_cache(places, 20 * KIB)

    def work(number: int) -> int:
        for _ in range(50):
            make_room(cache, KIB)
            file = fetched(cache)
            cache.used(file)
        return number

    assert together(6, work) == list(range(6))
    make_room(cache, 0)
    kept = sum(each.stat().st_size for each in (places[0] / "files").iterdir())
    assert kept <= 20 * KIB


# -- the bound -------------------------------------------------------------------------------------


def dirty(cache: ContentCache, size: int) -> CachedFile:
    file = cache.new(make_attr())
    file.create(0o644)
    with cache.room(size, file):
        file.write(bytes(size), 0)
    return file


def refused(cache: ContentCache, size: int) -> bool:
    with pytest.raises(OSError, match="cache_size") as info:
        make_room(cache, size)
    return info.value.errno == errno.ENOSPC


def test_what_can_not_be_kept_is_refused_before_it_is_taken(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    clean = [fetched(cache) for _ in range(4)]
    changed = dirty(cache, 7 * KIB)
    assert changed.complete
    # Clean copies went first; what has not landed stays.
    assert evicted(clean) == [0]
    assert refused(cache, 4 * KIB)
    make_room(cache, 3 * KIB)


def test_a_refusal_takes_no_room(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    dirty(cache, 8 * KIB)
    for _ in range(5):
        assert refused(cache, 3 * KIB)
    make_room(cache, 2 * KIB)


def test_bytes_that_were_written_are_counted_once(places: tuple[Path, Path]) -> None:
    """The promise and the bytes that kept it."""
    cache = make_cache(places)
    file = cache.new(make_attr())
    file.create(0o644)
    for number in range(10):
        with cache.room(KIB, file):
            file.write(bytes(KIB), number * KIB)
    assert refused(cache, 1)


def test_room_that_was_taken_is_not_held_for_what_is_gone_since(
    places: tuple[Path, Path],
) -> None:
    """Each writer's last promise counted anew once its file had made way."""
    cache = make_cache(places)

    def written_elsewhere(_: int) -> CachedFile:
        file = dirty(cache, 3 * KIB)
        snapshot = file.begin_store(1 << 30)
        assert snapshot is not None
        file.stored(snapshot, make_attr(3 * KIB))
        file.noted()
        return file

    stored = together(3, written_elsewhere)
    file = cache.new(make_attr())
    file.create(0o644)
    for number in range(10):
        with cache.room(KIB, file):
            file.write(bytes(KIB), number * KIB)
    assert [each.disk_bytes for each in stored] == [0, 0, 0]


def test_room_is_held_while_it_is_being_taken(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    with cache.room(6 * KIB):
        assert refused(cache, 5 * KIB)
        make_room(cache, 4 * KIB)
    make_room(cache, 10 * KIB)


def test_a_failure_ends_what_was_promised(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    with pytest.raises(ValueError, match="lost"), cache.room(10 * KIB):
        raise ValueError("lost")
    make_room(cache, 10 * KIB)


def test_lost_and_found_counts(places: tuple[Path, Path]) -> None:
    (places[1] / "lost+found/discarded-2026-01-01").mkdir(parents=True)
    (places[1] / "lost+found/discarded-2026-01-01/f").write_bytes(bytes(5 * KIB))
    (places[1] / "lost+found/g").write_bytes(bytes(4 * KIB))
    cache = make_cache(places)
    make_room(cache, KIB)
    assert refused(cache, 2 * KIB)


def test_what_an_earlier_mount_left_counts(places: tuple[Path, Path]) -> None:
    first = make_cache(places)
    file = dirty(first, 8 * KIB)
    cache = make_cache(places)
    recovered = cache.recover(file.ident, make_attr())
    assert recovered is not None
    recovered.recover(None, None, False, None)
    assert refused(cache, 3 * KIB)


def test_room_comes_back_when_a_change_has_landed(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    file = dirty(cache, 9 * KIB)
    assert refused(cache, 5 * KIB)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    file.stored(snapshot, make_attr(9 * KIB))
    file.noted()
    make_room(cache, 5 * KIB)
    assert not file.complete


def test_discarded_bytes_are_kept_beside_readers(places: tuple[Path, Path]) -> None:
    cache = make_cache(places)
    file = dirty(cache, KIB)
    where = cache.keep_discarded(file, "name")
    cache.drop(file)
    assert where is not None
    assert where.parent.name.startswith("discarded-")
    assert where.read_bytes() == bytes(KIB)


def test_two_of_one_name_are_both_kept(tmp_path: Path) -> None:
    """As `a/log` and `b/log`, which one process has made."""
    cache = ContentCache(tmp_path / "cache", tmp_path / "state", 1 << 20)
    kept = []
    for data in (b"one", b"two"):
        file = cache.new(make_attr())
        (tmp_path / "state/files" / file.ident).write_bytes(data)
        kept.append((cache.set_aside(file.ident, "log"), data))
    assert [path.read_bytes() for path, _ in kept] == [data for _, data in kept]
