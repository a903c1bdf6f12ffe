"""What a state directory keeps: changes that have not landed, lost+found, and whose mount it was.

For commands that find nothing mounted, and for the mount's own start and end. This is the one
place besides the mount that reads the journal; whoever does holds the directory's lock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import mountpoints
from .cache.asides import LOST_NAME, Asides, tail_name
from .cache.database import Database
from .cache.journal import Journal, Record
from .config import state_home
from .errors import os_error
from .model import Kind

#: What was discarded stays so long (seconds).
DISCARDED_S = 7 * 86400.0
#: It is found to be that old for so long (seconds) before it is removed.
_SURE_S = 86400.0
#: A process that was killed is gone within so many seconds.
_DYING_S = 5.0
_JOURNAL = "journal.sqlite"
_EXPIRING = "expiring.json"
_KINDS = {Kind.FILE: "file", Kind.DIRECTORY: "directory", Kind.SYMLINK: "link"}


@dataclass(frozen=True, slots=True)
class Origin:
    """The latest mount that used a state directory."""

    url: str
    mountpoint: str
    pid: int


@dataclass(frozen=True, slots=True)
class Kept:
    """One change that has not landed. `path` begins with the system; `since` is epoch seconds.

    `local` is the file with its bytes, None for a change that has none. Those before `start` are
    the cluster's, not all of them are here. `unclosed` is what was written after the close that
    promised those.
    """

    ident: str
    path: str
    kind: str
    closed: bool
    local: Path | None
    since: float | None
    error: str = ""
    start: int = 0
    unclosed: Path | None = None


class StateDirectory:
    """One state directory, looked at from outside of a mount."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- who -----------------------------------------------------------------------------------

    def origin(self) -> Origin:
        """Return whose it was; with empty fields where that isn't known."""
        found = _read(self.path / "mounted.json")
        return Origin(
            str(found.get("url", "")), str(found.get("mountpoint", "")), int(found.get("pid", 0))
        )

    def mounted_at(self) -> float:
        """Return when the latest mount began to use it (epoch seconds), 0 where none did."""
        try:
            return (self.path / "mounted.json").stat().st_mtime
        except OSError:
            return 0.0

    def belongs_to(self, origin: Origin) -> None:
        """Write down who uses it now."""
        write_json(self.path / "mounted.json", asdict(origin))

    def systems(self) -> list[str]:
        """Return the systems that the server offered the latest time; empty: that isn't known."""
        found = _read(self.path / "systems.json").get("systems")
        return [str(each) for each in found] if isinstance(found, list) else []

    def offers(self, systems: Sequence[str]) -> None:
        """Write down which *systems* the server offers, for when it can't be asked."""
        if systems != self.systems():
            write_json(self.path / "systems.json", {"systems": list(systems)})

    def last_exit(self) -> dict[str, Any]:
        """Return how the latest mount ended: empty where it was killed, or never ended."""
        return _read(self.path / "last-exit.json")

    @contextmanager
    def locked(self, holder: str = "a command") -> Iterator[int]:
        """Keep mounts and other commands away. Raises EBUSY, naming who has the directory."""
        fd = take_lock(self.path, f"{holder} (process {os.getpid()})")
        try:
            yield fd
        finally:
            os.close(fd)

    # -- what ----------------------------------------------------------------------------------

    def rows(self) -> list[Kept]:
        """Return what has not landed, oldest first. The lock must be held."""
        if not (self.path / _JOURNAL).exists():
            return []
        with self._journal() as journal:
            return self.rows_of(journal.records())

    def rows_of(self, records: Iterable[Record]) -> list[Kept]:
        """Return what *records* tell of, each with the reason of the last exit."""
        reasons = self.last_exit().get("failed", {})
        return [self._row(each, reasons) for each in records]

    def discard(self, *rows: Kept) -> Iterator[tuple[Kept, Path | None]]:
        """Give up each of *rows* as it is asked for; tell where its bytes are now.

        They stay in lost+found for seven days. The lock must be held.
        """
        with self._journal() as journal:
            for row in rows:
                where = None
                name = row.path.rpartition("/")[2]
                for local, start in ((row.unclosed, 0), (row.local, row.start)):
                    if local is not None and local.exists():
                        where = Asides(self.path).keep(local, name, start, discarded=True)
                        local.unlink()
                journal.forget(row.ident)
                yield row, where

    def lost(self) -> list[Path]:
        """Return the files in lost+found."""
        top = self.path / LOST_NAME
        return sorted(each for each in top.rglob("*") if each.is_file())

    def remove_expired(self, now: float | None = None) -> list[Path]:
        """Remove what was discarded more than seven days ago; return what was removed.

        A clock may be wrong: a call at least a day before has to have found the same.
        """
        now = time.time() if now is None else now
        old, found = Asides(self.path).expired(now - DISCARDED_S), self._found_expired()
        since = {each.name: min(found.get(each.name, now), now) for each in old}
        removed = [each for each in old if since[each.name] <= now - _SURE_S]
        for each in removed:
            shutil.rmtree(each, ignore_errors=True)
            del since[each.name]
        if since != found:
            with suppress(OSError):
                (self.path / _EXPIRING).write_text(json.dumps(since))
        return removed

    # -- inside --------------------------------------------------------------------------------

    def _found_expired(self) -> dict[str, float]:
        """Return since when what was discarded has been found old by each call, by its names."""
        try:
            return dict(json.loads((self.path / _EXPIRING).read_text()))
        except (OSError, ValueError):
            return {}

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        journal = Journal(Database(self.path / _JOURNAL))
        try:
            yield journal
        finally:
            journal.close()

    def _row(self, record: Record, reasons: dict[str, str]) -> Kept:
        path = f"/{record.system}{record.where}"
        local, unclosed = self.path / "files" / record.ident, None
        closed = self.path / "files" / (record.promised or "-")
        if record.path and not record.closed and closed.exists():
            # That is what the next mount stores.
            local, unclosed = closed, local if local.exists() else None
        return Kept(
            record.ident,
            path,
            _KINDS.get(record.kind, "entry") if record.path else "removal",
            record.closed,
            local if record.path and local.exists() else None,
            record.since or None,
            reasons.get(path, ""),
            # Without its copy, a version that was closed before isn't what is shown.
            0 if record.promised and not record.closed and local != closed else record.tail or 0,
            unclosed,
        )


def state_directories(extra: str | None = None) -> list[StateDirectory]:
    """Return all state directories that there are, or only *extra*."""
    if extra:
        return [StateDirectory(Path(extra).expanduser().absolute())]
    top = state_home() / "servers"
    try:
        return [StateDirectory(each) for each in sorted(top.iterdir()) if each.is_dir()]
    except FileNotFoundError:
        return []


def take_lock(state_dir: Path, holder: str) -> int:
    """Make *state_dir* this process's own; return the descriptor that holds the lock.

    Raises EBUSY with the words of the process that has it.
    """
    fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _locked(fd):
        other = os.pread(fd, 4096, 0).decode("utf-8", "replace")
        os.close(fd)
        raise os_error(errno.EBUSY, str(state_dir), f"in use by {other or 'another process'}")
    with suppress(OSError):
        # On a full disk what is kept must still be had.
        os.ftruncate(fd, 0)
        os.pwrite(fd, os.fsencode(holder), 0)
    return fd


def _locked(fd: int) -> bool:
    """Lock *fd*; a holder that was killed keeps the lock until its last thread has ended."""
    end = time.monotonic() + _DYING_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            word = os.pread(fd, 4096, 0).decode("utf-8", "replace").split(" ")[1:2]
            dying = word and word[0].isdecimal() and not mountpoints.is_alive(int(word[0]))
            if not dying or time.monotonic() > end:
                return False
        time.sleep(0.02)


def copy_out(source: Path, target: Path, start: int = 0) -> Path:
    """Copy a file or link to *target*, or beside it where something is there; return where.

    Nothing is ever overwritten. Times and permissions go along. Of what was appended to a file that
    is not all here, what there is from *start* on is copied, under a name that tells so.
    """
    target = target.with_name(tail_name(target.name, start))
    target.parent.mkdir(parents=True, exist_ok=True)
    for number in range(10_000):
        free = target if number == 0 else target.with_name(f"{target.name}.{number}")
        try:
            _copy_new(source, free, start)
        except FileExistsError:
            continue
        return free
    raise os_error(errno.EEXIST, str(target), "too many copies of this name")


def _copy_new(source: Path, target: Path, start: int) -> None:
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    with source.open("rb") as data:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "wb") as copy:
                data.seek(start)
                shutil.copyfileobj(data, copy, 1 << 20)
        except BaseException:
            # Half a file is not to be taken for the copy.
            target.unlink()
            raise
    with suppress(OSError):
        shutil.copystat(source, target, follow_symlinks=False)
        target.chmod(target.stat().st_mode & 0o7777 | 0o600)


def write_json(path: Path, value: Any) -> None:
    """Replace *path* by the JSON of *value*, in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
