"""Placing: from the name under which a large file has landed to the one it shall have."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable, Collection

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.transfers import UploadRecord
from firecrestfs.errors import ConflictError, os_error
from firecrestfs.model import Attr, Features, Kind, StoreItem, UserInfo

from .bundle import Bundler
from .modes import takes_one_of_several
from .remote_job import RemoteJobs, quoted
from .sending import Landing

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
#: What has landed gets this behind its name before a job writes it into its target. Whoever comes
#: after, a job that is run again or one of a later try, then knows that a target that is a
#: beginning of it is ours.
BEGUN = ".into"
_CHANGED = "the file was changed meanwhile"
_CHANGED_BY = f'changed() {{ echo "{_CHANGED}"; exit 3; }}\n'
#: Jobs may wait for long: they look once more whether the target is as it was. One of two may come
#: when the other is done and what it wrote is being removed: it opens that before it empties.
_COPY = """[ -e "$target" ] || changed
exec 9<"$target"
flock -w 60 9 || true
read -r inode now time < <(stat -L -c '%i %s %Y' /dev/fd/9)
[ "$inode" = "$ino" ] || changed
if [ -e "$source" ]; then
  [ "$now" = "$size" ] || changed
  case " $times " in *" $time "*) ;; *) changed ;; esac
  mv -T -- "$source" "$begun"
elif [ -e "$begun" ]; then
  cmp -s -- <(head -c "$now" -- "$begun") /dev/fd/9 || changed
else
  exit 0
fi
exec 8<"$begun"
! cmp -s /dev/fd/8 /dev/fd/9 || exit 0
cat <&8 > "$target"
cmp -s /dev/fd/8 "$target" || changed
"""
_MOVE = """[ -e "$source" ] || exit 0
known=${ino:+"$ino $size $mtime"}
now=$(stat -c '%i %s %Y' -- "$target" 2> /dev/null) || true
[ "$now" = "$known" ] || changed
mv -fT -- "$source" "$target"
"""


class Placing:
    """Renames what has landed on one system, or copies it into its target. Thread-safe."""

    def __init__(
        self,
        client: TypedClient,
        system: str,
        user: UserInfo,
        features: Features,
        bundler: Bundler,
        jobs: RemoteJobs,
        given: Callable[[str], Collection[int]] = lambda path: (),
    ) -> None:
        """*given*: the times (s) that jobs of ours may give a file meanwhile."""
        self._given = given
        self._client = client
        self._system = system
        self._user = user
        self._features = features
        self._bundler = bundler
        self._jobs = jobs

    def may_replace(self, item: StoreItem, now: Attr) -> bool:
        """Tell whether *item* may take the name of the file *now*: nothing is lost, or it shall."""
        own = now.uid == self._user.uid and now.nlink == 1 and not now.acl
        return now.kind is Kind.FILE and (own or takes_one_of_several(item, now))

    def place(self, item: StoreItem, before: Attr | None, landing: Landing) -> Attr | None:
        """Make what has landed the file at the item's path, where *before* was what was there.

        Returns what is there where it was written into that: then what has landed is still there,
        too, its name with `BEGUN`. Where *before* isn't there any more, ours gets a name of its
        own: raises the `ConflictError` that tells.
        """
        now = self._stat_or_none(item.path)
        if not (_same(before, now) or self._is_touched(item.path, before, now)):
            raise self._beside(item, landing)
        try:
            if now is not None and not self._may_take_the_name(item, now, landing):
                return self._copy_into(landing.temporary, item.path, item.size, now)
            wanted = item.mode if now is None or item.mode is not None else now.mode
            if wanted is not None and landing.attr is not None and wanted != landing.attr.mode:
                self._client.chmod(self._system, landing.temporary, wanted)
            self._rename(landing.temporary, item.path)
        except OSError as exc:
            if _CHANGED not in str(exc.strerror):
                raise
            raise self._beside(item, landing) from exc
        return None

    def _is_touched(self, path: str, before: Attr | None, now: Attr | None) -> bool:
        """Tell whether *now* is *before* with the time that it had been waiting for."""
        if before is None or now is None or now.mtime_ns // _SECOND not in self._given(path):
            return False
        return (before.kind, before.ino, before.size) == (now.kind, now.ino, now.size)

    def _may_take_the_name(self, item: StoreItem, now: Attr, landing: Landing) -> bool:
        shall = takes_one_of_several(item, now)
        return self.may_replace(item, now) and (shall or _in_group(landing, now))

    def begun(self, record: UploadRecord) -> Landing | None:
        """Return what *record* tells of, if a job has begun to write it into its target."""
        if not record.landed:
            return None
        attr = self._stat_or_none(f"{record.temporary}{BEGUN}")
        if attr is None or attr.ino != record.landed:
            return None
        return Landing(record.temporary, attr, ())

    def finish(self, record: UploadRecord, path: str) -> Attr | None:
        """Let a job write into *path* what is missing there of *record*, which one has begun.

        Return what is there then; None where it isn't a beginning of that any more.
        """
        now = self._client.stat(self._system, path)
        try:
            return self._copy_into(record.temporary, path, record.size, now)
        except OSError as exc:
            if _CHANGED not in str(exc.strerror):
                raise
            return None

    def _rename(self, old: str, new: str) -> None:
        if self._features.rename:
            self._client.rename(self._system, old, new)
            return
        now = self._stat_or_none(new)
        try:
            source = self._client.stat(self._system, old)
            self._bundler.rename(old, new, source, now)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            # The file system makes no hard links.
            log.info("%s is renamed by a job: %s", new, exc)
            self._jobs.run("rename", _script(_MOVE, old, new, now))

    def _copy_into(self, source: str, path: str, size: int, now: Attr) -> Attr:
        """Write *size* bytes into the file *now*, which keeps its inode, names, owner and ACL."""
        self._jobs.run("copy", copy_script(source, path, now, self._given(path)))
        after = self._client.stat(self._system, path)
        if (after.ino, after.size) != (now.ino, size):
            raise os_error(errno.EAGAIN, path, "it changed right after it was stored")
        return after

    def _beside(self, item: StoreItem, landing: Landing) -> ConflictError:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = f"{item.path}.conflict-{socket.gethostname()}-{stamp}"
        if self._stat_or_none(path) is not None:
            raise os_error(errno.EAGAIN, path, "a conflict copy of this very second exists")
        source = landing.temporary
        if self._stat_or_none(source) is None:
            source += BEGUN
        self._rename(source, path)
        return ConflictError(item.path, path, self._client.stat(self._system, path))

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._client.stat(self._system, path)
        except FileNotFoundError:
            return None


def _in_group(landing: Landing, now: Attr) -> bool:
    """Tell whether who may use the file *now* as its group may use what has landed, too."""
    return landing.attr is None or landing.attr.gid == now.gid


def copy_script(source: str, target: str, now: Attr, given: Collection[int] = ()) -> str:
    """Return the commands that write *source* into *target*, still *now*, however often run.

    Or with one of the times *given* (s).
    """
    times = (now.mtime_ns // _SECOND, *given)
    return f"times='{' '.join(map(str, times))}'\n{_script(_COPY, source, target, now)}"


def _script(text: str, source: str, target: str, now: Attr | None) -> str:
    """Return the commands *text* for a job that brings *source* to *target*, now still *now*."""
    values = {"source": quoted(source), "begun": quoted(source + BEGUN), "target": quoted(target)}
    values |= {"ino": "", "size": "", "mtime": ""}
    if now is not None:
        values |= {"ino": str(now.ino), "size": str(now.size)}
        values["mtime"] = str(now.mtime_ns // _SECOND)
    given = "".join(f"{name}={value}\n" for name, value in values.items())
    return given + _CHANGED_BY + text


def _same(before: Attr | None, now: Attr | None) -> bool:
    if before is None or now is None:
        return before is now
    return before.fingerprint == now.fingerprint
