"""Appends: what was put behind a large file here is put behind it on the cluster, once.

    folder of ours/piece ─ a job ─ folder/begun, cat begun >> file ─ proven ─ written down ─ removed

The bytes are uploaded into a folder that nobody else can look into, and a batch job appends them.
It does so only where the file is as it was known here, and says so beforehand, by renaming the
piece: whoever comes after, a job that is run again or one of a later try, then knows that the end
of the file is ours, and goes on where it stops. That all is there it has compared before it says
that, too: what is behind a beginning of ours may be somebody else's. So a job may be killed, run
late or run twice, and an answer may be lost.
"""

from __future__ import annotations

import errno
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.transfers import AppendRecord, Transfers
from firecrestfs.errors import JobCutShortError, NotAppendedError, is_transient, os_error
from firecrestfs.model import Attr, StoreItem

from .bundle import OUR_PREFIX
from .remote_job import Begun, RemoteJobs, quoted
from .writeback import NO_ROOM

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
#: Whoever else has the file locked is waited for so long (seconds).
_LOCKED_S = 60
_CHANGED = "the file was changed meanwhile"
#: Descriptor 9 stays with the file, whatever becomes of its name.
_SCRIPT = """set -o pipefail
changed() { echo "{changed}"; exit 3; }
part() { tail -c +$((start + 1)) /dev/fd/9 | head -c "$1" || true; }
type stat cmp > /dev/null
exec 9<"$target"
flock -w {patience} 9 || [ -e "$folder/piece" ]
read -r inode now time < <(stat -L -c '%i %s %Y' /dev/fd/9)
[ "$inode" = "$ino" ] || changed
if [ -e "$folder/piece" ]; then
  [ "$now $time" = "$start $mtime" ] || changed
  mv -T -- "$folder/piece" "$folder/begun"
elif [ ! -e "$folder/begun" ]; then
  exit 0
fi
have=$((now - start))
[ $have -gt 0 ] || [ "$now $time" = "$start $mtime" ] || changed
[ $have -le $size ] || have=$size
cmp -s <(part $have) <(head -c $have -- "$folder/begun") || changed
tail -c +$((have + 1)) -- "$folder/begun" >> /dev/fd/9
cmp -s <(part $size) "$folder/begun" || changed
: > "$folder/done"
"""


class Appends:
    """Appends to files of one system. Thread-safe; `send` waits for a job."""

    def __init__(
        self, client: TypedClient, system: str, jobs: RemoteJobs, transfers: Transfers
    ) -> None:
        self._client = client
        self._system = system
        self._jobs = jobs
        self._transfers = transfers

    @property
    def possible(self) -> bool:
        """Whether jobs can be begun, as far as is known."""
        return bool(self._jobs.folder)

    def begun(self, item: StoreItem) -> AppendRecord | None:
        """Return the append that an earlier try of storing *item* has begun.

        One of other bytes, which has landed or isn't wanted any more, is ended.
        """
        record = self._of(item.ident)
        if record is None or item.tail is None:
            return None
        if record.start == item.tail and record.size <= item.size - item.tail:
            return record
        self._forget(record)
        return None

    def send(self, item: StoreItem, now: Attr | None, check: Callable[[], None]) -> Attr:
        """Put the `data` of *item* behind the file *now*; return what that is then.

        What an earlier try has begun is brought to its end instead: it may have been a beginning of
        it. *check* is called again and again; what it raises ends the wait. `NotAppendedError`:
        jobs can't do it, and nothing has changed.
        """
        record = self.begun(item)
        if record is not None:
            if record.path != item.path:
                record = replace(record, path=item.path)
                self._transfers.note_append(record)
            if record.job:
                self._await_earlier(record, check)
            attr = self._landed(record)
            if attr is not None:
                return attr
        else:
            assert now is not None
            record = self._begin(item, now)
        self._bring(record, item.data[: record.size])
        try:
            self._run(record, check)
        except OSError as exc:
            if _is_passing(exc):
                raise
            return self._failed(record, exc)
        attr = self._landed(record)
        if attr is None:
            raise self._gone(record)
        return attr

    def made(self, path: str, known: Attr, now: Attr, *, alone: bool) -> bool:
        """Tell whether *now* is *known*, with what a job of ours has put behind it.

        *alone*: all of that, and nothing else; or it may be there in part, or more than it.
        """
        return any(
            record.path == path
            and (record.ino, record.start) == (known.ino, known.size)
            and (not alone or now.size == record.start + record.size)
            and self._is_ours(record, now)
            for record in self._records()
        )

    def stop(self, ident: str) -> None:
        """Let no job begin to append to the file of the copy *ident*: it is stored as a whole."""
        record = self._of(ident)
        if record is not None:
            self._client.remove_proven(self._system, f"{record.folder}/piece")
            self._end_job(record)

    def unfinished(self) -> list[str]:
        """Return the copies of which something is being appended, or left over."""
        return [record.ident for record in self._records()]

    def end(self, ident: str) -> None:
        """Forget the append of the copy *ident*, which has landed, and remove what it has left."""
        record = self._of(ident)
        if record is not None:
            try:
                self._remove(self._retired(record))
            except OSError as exc:
                log.info("%s is left behind for now: %s", record.folder, exc)

    def forget(self, ident: str) -> None:
        """The same, of one that nobody wants any more. Raises why something is left."""
        record = self._of(ident)
        if record is not None:
            self._forget(record)

    # -- inside --------------------------------------------------------------------------------

    def _records(self) -> list[AppendRecord]:
        return self._transfers.appends(self._system)

    def _of(self, ident: str) -> AppendRecord | None:
        return next((record for record in self._records() if record.ident == ident), None)

    def _begin(self, item: StoreItem, now: Attr) -> AppendRecord:
        """Write down what is to be done."""
        folder = f"{self._jobs.folder}/{OUR_PREFIX}append-{uuid.uuid4().hex}"
        seconds = now.mtime_ns // _SECOND
        record = AppendRecord(
            item.ident, self._system, item.path, folder, now.size, len(item.data), now.ino, seconds
        )
        self._transfers.note_append(record)
        return record

    def _bring(self, record: AppendRecord, data: bytes) -> None:
        """Upload what is to be appended, unless that was done; it is nobody else's business.

        A job may have been submitted, although no answer came: it may have begun by now.
        """
        try:
            try:
                self._client.mkdir(self._system, record.folder)
                self._client.chmod(self._system, record.folder, 0o700)
            except FileExistsError:
                there = self._stat_or_none(f"{record.folder}/piece")
                if there is not None and there.size == record.size:
                    return
                if self._stat_or_none(f"{record.folder}/begun") is not None:
                    return
                self._client.chmod(self._system, record.folder, 0o700)
            self._client.upload(self._system, record.folder, "piece", data)
        except OSError as exc:
            if _is_passing(exc):
                raise
            raise self._refused(record, exc) from exc

    def _run(self, record: AppendRecord, check: Callable[[], None]) -> None:
        begun = self._jobs.begin("append", script_of(record))
        self._transfers.note_append(replace(record, job=begun.job_id, words=begun.words))
        self._wait(begun, check)

    def _await_earlier(self, record: AppendRecord, check: Callable[[], None]) -> None:
        """Wait for the end of a job that was begun before: two at a time are no use."""
        try:
            self._wait(_job_of(record), check)
        except OSError as exc:
            if _is_passing(exc):
                raise
            log.info("%s: an earlier job of ours: %s", record.path, exc)

    def _wait(self, begun: Begun, check: Callable[[], None]) -> None:
        try:
            self._jobs.wait(begun, check)
        except OSError as exc:
            if not _is_passing(exc):
                self._jobs.clear(begun)
            raise
        self._jobs.clear(begun)

    def _landed(self, record: AppendRecord) -> Attr | None:
        """Return the file with what was appended; None where it isn't, as far as can be told."""
        now, end = self._stat_or_none(record.path), record.start + record.size
        if now is None or now.size < end or now.ino != record.ino:
            return None
        if self._stat_or_none(f"{record.folder}/done") is None:
            return None
        # What somebody else has put behind it since is another change.
        return now if now.size == end else replace(now, size=end)

    def _is_ours(self, record: AppendRecord, now: Attr) -> bool:
        """Tell whether *now* is the file of *record*, and a job has begun to append to it."""
        if now.ino != record.ino or now.size < record.start:
            return False
        return self._stat_or_none(f"{record.folder}/begun") is not None

    def _failed(self, record: AppendRecord, exc: OSError) -> Attr:
        """Return what the file is if it has landed although its job failed. Raises else."""
        changed = _CHANGED in str(exc.strerror)
        attr = None if changed else self._landed(record)
        if attr is not None:
            return attr
        now = self._stat_or_none(record.path)
        if now is None or now.ino != record.ino or now.size < record.start:
            raise self._gone(record)
        if isinstance(exc, JobCutShortError):
            # Another one goes on where it stopped, or begins; nobody waits for this one.
            self._transfers.note_append(replace(record, job="", words=""))
            raise exc
        untouched = (now.size, now.mtime_ns // _SECOND) == (record.start, record.mtime)
        if exc.errno in NO_ROOM and (untouched or self._is_ours(record, now)):
            raise exc
        if untouched:
            raise self._refused(record, exc)
        if changed or not self._is_ours(record, now):
            raise self._gone(record)
        # It was cut short: another job goes on where it stopped.
        raise os_error(errno.EAGAIN, record.path, exc.strerror)

    def _gone(self, record: AppendRecord) -> OSError:
        """End *record*; return the error after which the next try finds out what has changed."""
        self._forget(record)
        return os_error(errno.EAGAIN, record.path, "it changed while it was appended to")

    def _refused(self, record: AppendRecord, exc: OSError) -> OSError:
        """End *record*, of which nothing was done; return the error that tells so."""
        self._forget(record)
        return NotAppendedError(record.path, exc.strerror or str(exc))

    # -- what it leaves ------------------------------------------------------------------------

    def _forget(self, record: AppendRecord) -> None:
        retired = self._retired(record)
        self._end_job(retired)
        self._remove(retired)

    def _retired(self, record: AppendRecord) -> AppendRecord:
        """Write down that all that is left of *record* is to be removed."""
        if not record.path:
            return record
        return self._transfers.retire_append(record, f"{record.ident}.{uuid.uuid4().hex[:8]}")

    def _remove(self, record: AppendRecord) -> None:
        # A job that is run late finds nothing to do.
        self._client.remove_proven(self._system, record.folder)
        self._transfers.end_append(record.ident)

    def _end_job(self, record: AppendRecord) -> None:
        if record.job:
            self._jobs.end(_job_of(record))

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._client.stat(self._system, path)
        except FileNotFoundError:
            return None


def _is_passing(exc: OSError) -> bool:
    """Tell whether *exc* says nothing of a job, which goes on."""
    if isinstance(exc, JobCutShortError):
        return False
    return is_transient(exc) or exc.errno in (errno.ESHUTDOWN, errno.ECANCELED)


def _job_of(record: AppendRecord) -> Begun:
    now = time.monotonic()
    return Begun(record.job, record.words, now, now)


def script_of(record: AppendRecord) -> str:
    """Return the commands that append what *record* tells of, once, however often they are run."""
    values = {"target": quoted(record.path), "folder": quoted(record.folder)}
    values |= {name: str(getattr(record, name)) for name in ("start", "size", "ino", "mtime")}
    given = "".join(f"{name}={value}\n" for name, value in values.items())
    words = {"{changed}": _CHANGED, "{patience}": str(_LOCKED_S)}
    script = _SCRIPT
    for word, text in words.items():
        script = script.replace(word, text)
    return given + script
