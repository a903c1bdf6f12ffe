"""Toucher: gives times to files that the cluster has, whose content stays where it is.

FirecREST has no request for it, and a tar would carry the content again. So it is done by a job of
ours, one for all files that are due, which looks at each first: only the version that was known
here gets the time. Nobody sits and waits for the job: whoever asks again learns how it stands.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import JobCutShortError, NotYetError, is_transient, os_error
from firecrestfs.model import Attr, Source
from firecrestfs.paths import directory_of, name_of

from .carrying import is_sendable
from .packing import is_time
from .remote_job import Begun, RemoteJobs, quoted

log = logging.getLogger(__name__)

Results = dict[str, Attr | OSError]
_SECOND = 1_000_000_000
#: Most files of one job: a script must not get too long.
_MOST = 500
#: From so many files of one directory on, one listing is cheaper than a look at each.
_LIST_FROM = 3
#: Paths of which is kept in mind what times jobs of ours may give them.
_REMEMBERED = 10_000
#: `give SIZE 'SECONDS…' LISTED TIME PATH`: where PATH is as it was known, with one of the times or
#: with that which a listing told as LISTED (`?`: none did), give it TIME. Under a lock: a job
#: that was overtaken by another may run beside it, and would give the older time after the newer.
_GIVE = """set +e
bad=0
give() {
  exec 9< /dev/null
  [ -f "$5" ] && [ ! -L "$5" ] && [ -r "$5" ] && exec 9< "$5" && flock -w 60 9
  read -r size seconds day clock rest < <(stat -c '%s %Y %y' -- "$5")
  [ "$size" = "$1" ] || return
  case " $2 $3 " in *" $seconds "*|*" ${day}T${clock%%.*} "*)
    touch -c -h -m -d "@$4" -- "$5" || bad=1 ;;
  esac
}
"""


@dataclass(frozen=True, slots=True)
class Touch:
    """A time to give to the remote file at `path`, which `base` describes."""

    path: str
    base: Attr
    mtime_ns: int


@dataclass(slots=True, eq=False)
class _Running:
    begun: Begun
    left: dict[str, Touch]  # those of which nobody has heard yet what became of them
    ended: bool = False
    failure: OSError | None = None


class Toucher:
    """Gives times on one system. Thread-safe; waits for single requests, never for a job."""

    def __init__(self, client: TypedClient, system: str, jobs: RemoteJobs) -> None:
        self._client = client
        self._forbidden = client.features(system).forbidden
        self._system = system
        self._jobs = jobs
        self._lock = threading.Lock()  # guards all below
        self._running: list[_Running] = []
        self._given: dict[str, tuple[int, ...]] = {}  # path → times (s) that jobs may give it

    def given(self, path: str) -> Collection[int]:
        """Return the times, epoch seconds, that jobs of ours may have given to *path*."""
        return self._given.get(path, ())

    def touch(self, wanted: Sequence[Touch]) -> Results:
        """Give all of *wanted* their times; tell of each path what it is then, or why not.

        `NotYetError`: the job is waiting or running; call again. ESTALE: the file is no more the
        one that was meant.
        """
        results: Results = {}
        with self._lock:
            running = list(self._running)
        for run in running:
            mine = [each for each in wanted if run.left.get(each.path) == each]
            if mine:
                results.update(self._look(run, mine))
        new = [each for each in wanted if each.path not in results]
        for start in range(0, len(new), _MOST):
            results.update(self._begin(new[start : start + _MOST]))
        return results

    def sweep(self, wanted: Callable[[], Collection[str]]) -> None:
        """End jobs none of whose files is among the paths *wanted* still. Raises the first failure.

        Their times were overtaken by other changes. Without jobs nobody asks for the paths.
        """
        with self._lock:
            running = list(self._running)
        paths = wanted() if running else ()
        for run in [each for each in running if each.left.keys().isdisjoint(paths)]:
            self._jobs.end(run.begun)
            with self._lock:
                self._running = [each for each in self._running if each is not run]

    def _begin(self, wanted: Sequence[Touch]) -> Results:
        with self._lock:
            script = _script(wanted, self._given)
            for each in wanted:
                earlier = self._given.pop(each.path, ())
                self._given[each.path] = (*earlier, each.mtime_ns // _SECOND)[-8:]
            while len(self._given) > _REMEMBERED:
                del self._given[next(iter(self._given))]
        try:
            begun = self._jobs.begin("touch", script)
        except OSError as exc:
            return dict.fromkeys((each.path for each in wanted), exc)
        with self._lock:
            self._running.append(_Running(begun, {each.path: each for each in wanted}))
        return {each.path: NotYetError(each.path, begun.pause_s) for each in wanted}

    def _look(self, run: _Running, wanted: Sequence[Touch]) -> Results:
        """Return what *run* has made of those of its files that are *wanted* now."""
        try:
            run.ended = run.ended or self._jobs.look(run.begun)
        except OSError as exc:
            if is_transient(exc) and not isinstance(exc, JobCutShortError):
                return dict.fromkeys((each.path for each in wanted), exc)
            # Of a job that failed some files may have their times all the same.
            run.ended, run.failure = True, exc
        if not run.ended:
            pause = run.begun.pause_s
            return {each.path: NotYetError(each.path, pause) for each in wanted}
        results = self._proven(wanted, run.failure)
        with self._lock:
            for path, result in results.items():
                told = not isinstance(result, OSError) or not is_transient(result)
                if told or result is run.failure:
                    run.left.pop(path, None)
            self._running = [each for each in self._running if each is not run]
            if run.left:
                self._running.append(run)
        if not run.left:
            self._jobs.clear(run.begun)
        return results

    # -- the proof -----------------------------------------------------------------------------

    def _proven(self, wanted: Sequence[Touch], failure: OSError | None) -> Results:
        by_directory: defaultdict[str, list[Touch]] = defaultdict(list)
        for each in wanted:
            by_directory[directory_of(each.path)].append(each)
        results: Results = {}
        for directory, touches in by_directory.items():
            for each, now in self._found(directory, touches):
                results[each.path] = _outcome(each, now, failure)
        return results

    def _found(
        self, directory: str, touches: Sequence[Touch]
    ) -> Iterable[tuple[Touch, Attr | OSError | None]]:
        """Yield what each of *touches*, all in *directory*, is now (None: gone)."""
        odd = not all(is_sendable(each.path, self._forbidden) for each in touches)
        if odd or len(touches) >= _LIST_FROM:
            try:
                listed = {
                    each.name: each.attr for each in self._client.list(self._system, directory)
                }
                return [(each, listed.get(name_of(each.path))) for each in touches]
            except OSError as exc:
                log.info("%s: looking at each file singly: %s", directory, exc)
        return [(each, self._stat(each.path)) for each in touches]

    def _stat(self, path: str) -> Attr | OSError | None:
        try:
            return self._client.stat(self._system, path)
        except FileNotFoundError:
            return None
        except OSError as exc:
            return exc


def _outcome(wanted: Touch, now: Attr | OSError | None, failure: OSError | None) -> Attr | OSError:
    if isinstance(now, OSError):
        return now
    if now is None or now.kind is not wanted.base.kind or now.size != wanted.base.size:
        return os_error(errno.ESTALE, wanted.path, "it changed on the cluster meanwhile")
    if is_time(now, wanted.mtime_ns):
        return now
    return failure or os_error(errno.ESTALE, wanted.path, "it changed on the cluster meanwhile")


def _script(wanted: Sequence[Touch], given: Mapping[str, Sequence[int]]) -> str:
    lines = []
    for each in wanted:
        known = (each.base.mtime_ns // _SECOND, *given.get(each.path, ()))
        times = " ".join(str(seconds) for seconds in known)
        # Of the cluster's zone, which need not be known here by then.
        listed = quoted(each.base.listed) if each.base.source is Source.LS else "?"
        lines.append(
            f"give {each.base.size} '{times}' {listed} {_text(each.mtime_ns)} {quoted(each.path)}\n"
        )
    return f"{_GIVE}{''.join(lines)}exit $bad"


def _text(time_ns: int) -> str:
    seconds, fraction = divmod(abs(time_ns), _SECOND)
    return f"{'-' if time_ns < 0 else ''}{seconds}.{fraction:09d}"
