"""Scripts: what is dropped into `.jobs`, and the moment at which it is whole and submitted."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from firecrestfs.cache.metadata import boottime
from firecrestfs.cache.submissions import Stage, Submission
from firecrestfs.errors import os_error

from ..guard import HIDDEN_PREFIX
from ..handles import MemoryHandle
from . import directives
from .defaults import Defaults
from .submissions import Submissions

#: Directory whose `.jobs` it is, and the name in there.
Key = tuple[str, str]

SCRIPT_BYTES = 1 << 20
#: The same name is submitted again only after so long (seconds): some programs write twice.
_AGAIN_S = 5.0
#: So many closes may wait their full time: each holds one of the mount's threads.
_WAITING, _HURRIED_S = 40, 1.0
#: Names that editors, desktops and copying programs use on the way to the real one.
_TEMPORARY = re.compile(
    r"^\.|~$|\.(sw[a-p]|tmp|temp|part|partial|bak|crdownload|kate-swp|filepart)$|^4913$|^#.*#$"
    r"|^sed\w{6}$|^Cu\w{6}$|\.(tmp|temp)[-.\w]*$|\.\w{6,8}\.(tmp|new)$"
)
#: What may pass: the scheduler or the way to it is down, busy or slow.
_LATER = frozenset(
    {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ETIMEDOUT}
    | {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED}
)
#: What tells of a script NAME is called NAME.jobid and so on.
TELLING = ("jobid", "error", "status")


def is_temporary(name: str) -> bool:
    """Tell whether programs use *name* only until a file is whole."""
    return _TEMPORARY.search(name) is not None


@dataclass(slots=True, eq=False)
class Script:
    """One script; `ident` is its latest submission, `link` its text where it is a symlink."""

    content: bytearray = field(default_factory=bytearray)
    mode: int = 0o644
    mtime_ns: int = field(default_factory=time.time_ns)
    link: str = ""
    target: str = ""  # the script on the cluster that `link` leads to
    changed: bool = False  # since it was last submitted or refused
    writers: int = 0
    ident: str = ""
    error: str = ""  # why it was not even given to be submitted


class ScriptHandle(MemoryHandle):
    """One open of a script."""

    def __init__(
        self, script: Script, flags: int, flushed: Callable[[], None], released: Callable[[], None]
    ) -> None:
        super().__init__(script.content, flags, SCRIPT_BYTES, flushed, released)
        self._script = script

    def write(self, data: bytes, offset: int) -> int:
        """Write into memory. Raises EFBIG over the limit."""
        done = super().write(data, offset)
        self._script.changed = True
        return done

    def truncate(self, size: int) -> None:
        """Cut or extend in memory."""
        super().truncate(size)
        self._script.changed = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a script has to do with the rest of the mount.

    `held` tells whether somebody else writes it; `read` returns a script of the cluster; `close_s`
    is how long close(2) may take.
    """

    system: str
    directory: str  # where jobs run whose scripts are dropped at the system's root
    held: Callable[[Key], bool]
    read: Callable[[str], bytes]
    defaults: Callable[[], Defaults]
    report: Callable[[str, str], None]
    interrupted: Callable[[], bool]
    close_s: float


class Scripts:
    """The scripts of one system. Thread-safe as far as one isn't written by two at once."""

    def __init__(self, around: Surroundings, submissions: Submissions) -> None:
        self._around = around
        self._submissions = submissions
        self._lock = (
            threading.Lock()
        )  # guards `changed` of scripts at the decision, and the next two
        self._times: dict[Key, float] = {}  # when a name was last submitted
        self._waiting = 0  # closes that wait
        self._scripts: dict[Key, Script] = {}
        for each in submissions.all():
            if each.shown:
                self._scripts[each.directory, each.name] = _remembered(each)

    # -- looking -------------------------------------------------------------------------------

    def get(self, key: Key) -> Script | None:
        """Return the script *key*."""
        return self._scripts.get(key)

    def names(self, directory: str) -> list[str]:
        """Return the names in the `.jobs` of *directory*."""
        return [
            name
            for where, name in list(self._scripts)
            if where == directory and not name.startswith(HIDDEN_PREFIX)
        ]

    def submission(self, script: Script) -> Submission | None:
        """Return what became of *script*."""
        return self._submissions.get(script.ident) if script.ident else None

    def told(self, script: Script) -> dict[str, str]:
        """Return what there is to tell of *script*, by the kind of telling."""
        found = self.submission(script)
        told = {"error": f"{script.error}\n"} if script.error else {}
        if found is None:
            return told
        if found.stage is Stage.REFUSED:
            return {"error": f"{found.error}\n"} | told
        if found.under_way:
            return told | {"status": f"{self._submissions.status(found.ident)}\n"}
        return told | {"jobid": f"{found.job_id}\n"}

    # -- changing ------------------------------------------------------------------------------

    def create(self, key: Key, flags: int, mode: int) -> ScriptHandle:
        """Take a new script."""
        self._scripts[key] = script = Script(mode=mode & 0o777)
        return self.open(key, script, flags)

    def open(self, key: Key, script: Script, flags: int) -> ScriptHandle:
        """Open a script."""
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if flags & os.O_TRUNC and writing:
            script.content.clear()
            script.changed = True
        if writing:
            script.writers += 1

        def released() -> None:
            script.writers -= 1
            if not script.writers:
                self._decide_at_the_end(key, script)

        return ScriptHandle(script, flags, lambda: self._flushed(key, script), released)

    def truncate(self, script: Script, size: int) -> None:
        """Cut or extend a script."""
        if size > SCRIPT_BYTES:
            raise os_error(errno.EFBIG, None, f"a script holds {SCRIPT_BYTES:,} bytes at most")
        del script.content[size:]
        script.content.extend(bytes(size - len(script.content)))
        script.changed = True

    def link(self, key: Key, text: str, target: str) -> None:
        """Submit the script *target* of the cluster, in place."""
        script = Script(mode=0o777, link=text, target=target, changed=True)
        self._scripts[key] = script
        try:
            self._decide(key, script)
        except OSError:
            # Who hears that a link could not be made expects none to be there.
            self._scripts.pop(key, None)
            raise

    def rename(self, old: Key, new: Key) -> None:
        """Give a script another name; a temporary one that gets its final one is submitted now."""
        script = self._scripts.pop(old)
        self._scripts[new] = script
        if script.ident and not is_temporary(new[1]):
            self._submissions.amend(script.ident, name=new[1])
        else:
            # An editor's backup: what became of the script stays with its name.
            script.ident = ""
        if not self._is_held(new, script):
            self._decide(new, script)

    def remove(self, key: Key) -> None:
        """Forget our copy; the job goes on. Raises EBUSY where there is to be a job yet."""
        found = self.submission(self._scripts[key])
        if found is not None and found.under_way:
            text = f"it is still to be submitted: write 'cancel' to {key[1]}.ctl to take it back"
            raise os_error(errno.EBUSY, key[1], text)
        for each in self._submissions.all():
            if (each.directory, each.name) == key and each.shown:
                self._submissions.amend(each.ident, shown=False)
        del self._scripts[key]
        self._times.pop(key, None)

    def take_back(self, key: Key) -> None:
        """Give up the submission of a script. Raises EALREADY where it is too late."""
        script = self._scripts[key]
        if not script.ident or not self._submissions.take_back(script.ident):
            text = "there is nothing to take back: cancel the job itself, by its ctl"
            raise os_error(errno.EALREADY, key[1], text)
        self._times.pop(key, None)

    def dismiss(self, key: Key) -> None:
        """Forget why a script was refused."""
        script = self._scripts[key]
        script.error = script.ident = ""

    # -- submitting ----------------------------------------------------------------------------

    def _flushed(self, key: Key, script: Script) -> None:
        # close(2) of a duplicate comes here too: the script isn't whole before the last.
        if not self._is_held(key, script):
            self._decide(key, script)

    def _is_held(self, key: Key, script: Script) -> bool:
        # Not by `writers`: the kernel tells of a handle's end some time after its close.
        return script.changed and self._around.held(key)

    def _decide_at_the_end(self, key: Key, script: Script) -> None:
        """Decide where no close was the last; nobody is there to be told but by the files."""
        try:
            self._decide(key, script)
        except OSError as exc:
            where = f"{key[0].rstrip('/')}/.jobs/{key[1]}"
            self._around.report(where, f"not submitted: {exc.strerror}")

    def _decide(self, key: Key, script: Script) -> None:
        """Submit *script* if it is new and not under a temporary name. Raises why it can't be."""
        with self._lock:
            if self._scripts.get(key) is not script or is_temporary(key[1]):
                return
            if not script.changed or not (script.content or script.target):
                return
            script.changed = False
            script.error = ""
        try:
            self._submit(key, script)
        except OSError as exc:
            script.error = exc.strerror or str(exc)
            if exc.errno != errno.EAGAIN:
                # What became of an earlier version would be taken for this one's.
                script.ident = ""
            raise

    def _submit(self, key: Key, script: Script) -> None:
        content = bytes(script.content) if not script.target else self._around.read(script.target)
        if not content.startswith(b"#!"):
            raise os_error(errno.EINVAL, key[1], "not a script: its first line must begin with #!")
        self._require_time(key)
        submission = self._submission(key, script, content)
        self._submissions.begin(submission)
        script.ident = submission.ident
        with self._lock:
            self._times[key] = boottime()
        try:
            found = self._wait(submission)
        except OSError:
            self._times.pop(key, None)
            raise
        if found.stage is Stage.REFUSED:
            self._times.pop(key, None)
            raise os_error(_code(found.code), key[1], found.error)

    def _wait(self, submission: Submission) -> Submission:
        """Return what became of *submission* by the time at which close(2) must return."""
        with self._lock:
            self._waiting += 1
            patience = self._around.close_s if self._waiting <= _WAITING else _HURRIED_S
        try:
            return self._submissions.wait(submission.ident, patience, self._around.interrupted)
        finally:
            with self._lock:
                self._waiting -= 1

    def _require_time(self, key: Key) -> None:
        """Raise EAGAIN where the same name was submitted just now, or is to be submitted yet."""
        earlier = [each for each in self._submissions.all() if (each.directory, each.name) == key]
        if any(each.under_way for each in earlier):
            text = f"an earlier one of this name is still to be submitted: see {key[1]}.status"
            raise os_error(errno.EAGAIN, key[1], text)
        with self._lock:
            passed = boottime() - self._times.get(key, -_AGAIN_S)
        if passed < _AGAIN_S:
            which = f" as job {earlier[-1].job_id}" if earlier and earlier[-1].job_id else ""
            text = f"submitted{which} {passed:.0f} s ago; to submit it again write it once more"
            raise os_error(errno.EAGAIN, key[1], f"{text} after {_AGAIN_S:.0f} s")

    def _submission(self, key: Key, script: Script, content: bytes) -> Submission:
        directory, name = key
        defaults = self._around.defaults()
        own = directives.directives(content)
        wanted = {
            option: getattr(defaults, option)
            for option in ("account", "partition", "reservation")
            if option not in own
        }
        in_place = script.target
        if not in_place and "job-name" not in own:
            wanted["name"] = directives.job_name(name)
        plain = in_place.rpartition("/")[2] if in_place else directives.job_name(name)
        return Submission(
            ident=uuid.uuid4().hex,
            system=self._around.system,
            directory=directory,
            name=name,
            workdir=self._workdir(directory, in_place, defaults),
            script=content,
            script_path=in_place,
            link=script.link,
            mode=script.mode,
            job_name=own.get("job-name") or plain,
            wait_for=defaults.wait_for,
            options={option: value for option, value in wanted.items() if value},
            env=dict(defaults.environment),
            array="array" in own,
            created=time.time(),
        )

    def _workdir(self, directory: str, in_place: str, defaults: Defaults) -> str:
        if directory != "/":
            return directory
        if defaults.working_directory:
            return defaults.working_directory
        return in_place.rpartition("/")[0] or self._around.directory


def _code(code: int) -> int:
    """Return the errno of close(2) for one of a submission: whether to mend it or to come again."""
    if code in (errno.ENOEXEC, errno.ENOENT):
        return errno.EINVAL
    if code == errno.EPERM:
        return errno.EDQUOT  # a limit of the account
    return errno.EAGAIN if code in _LATER else code


def _remembered(each: Submission) -> Script:
    return Script(
        content=bytearray() if each.link else bytearray(each.script),
        mode=each.mode,
        mtime_ns=int(each.created * 1e9),
        link=each.link,
        target=each.script_path,
        ident=each.ident,
    )
