"""Random operations on the mount and on a plain directory: what comes of them is equal.

Among them another client changes the cluster, the mount's process is killed, it is unmounted and
mounted again. Results, errnos and trees are compared; what differs on purpose and is left out:

- the name of a conflict copy holds a host and a time: compared without them
- directories' sizes and link counts
- modes that would refuse something: root may do everything in the plain directory
- hard links that stay
- what another client does to a file that is open here: a handle reads one version, or ESTALE
- a directory that is removed while an unlinked file in it is still open
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ..crash.site import Site
from ..crash.told import is_ours
from ..fs.drivers import KernelDriver, mode_of
from ..harness import wait_for

names = st.sampled_from(("a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "a b"))
#: Names of files that are opened and kept open.
top_names = st.sampled_from(("a", "b", "c"))
contents = st.sampled_from([b"", b"x", b"some text\n", b"other", b"z" * 5000, bytes(200_000)])
modes = st.sampled_from([0o600, 0o640, 0o644, 0o755])
#: What hangs in a mount for so long (seconds) fails.
_EXAMPLE_S = 90.0
_CONFLICT = re.compile(r"\.conflict-.*")
_numbers = itertools.count(1)


class MountMachine(RuleBasedStateMachine):
    """One example: a directory of the mount and a plain one, empty at first."""

    #: The mount, which examples share; set by the test.
    site: ClassVar[Site]
    #: Whether archives of ours may stay behind on the cluster when a mount dies.
    litter: ClassVar[bool] = True
    #: Whether nothing is stored before somebody asks for it.
    patient: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.name = f"example-{next(_numbers)}"
        self.there = self.site.there / self.name
        self.there.mkdir()
        local = self.site.home / "plain" / self.name
        local.mkdir(parents=True)
        self.plain = KernelDriver(local)
        self.fs = self.site.driver.at(f"{self.site.driver.base}/{self.name}")
        self.site.driver.refresh()
        self.site.watch_s = _EXAMPLE_S
        self.site.watch()
        self.open: list[tuple[int, int, str]] = []
        assert wait_for(lambda: self.fs.exists(""), 5)

    def teardown(self) -> None:
        """Let everything land; what the cluster has then is what the plain directory has."""
        try:
            while self.open:
                self.close(0)
            self.land()
            assert self.on_cluster() == self.tree(self.plain)
        finally:
            self.fs.close_all()
            self.plain.close_all()
            if not self.site.lives:
                self.site.mount()
            with contextlib.suppress(OSError):
                self.fs.sync()
            shutil.rmtree(self.there, ignore_errors=True)
            shutil.rmtree(self.plain.mountpoint, ignore_errors=True)

    # -- files ---------------------------------------------------------------------------------

    @rule(name=names, data=contents)
    def write(self, name: str, data: bytes) -> None:
        self.both("write_file", name, data)

    @rule(name=names, data=contents)
    def append(self, name: str, data: bytes) -> None:
        self.both("append", name, data)

    @rule(name=names, data=contents)
    def make(self, name: str, data: bytes) -> None:
        self.compare(lambda fs: _make(fs, name, data))

    @rule(name=names, data=contents, at=st.integers(0, 40))
    def overwrite(self, name: str, data: bytes, at: int) -> None:
        self.compare(lambda fs: _overwrite(fs, name, data, at))

    @rule(name=names, size=st.integers(0, 60))
    def truncate(self, name: str, size: int) -> None:
        self.both("truncate", name, size)

    @rule(name=names, data=contents)
    def save_by_way_of_another_name(self, name: str, data: bytes) -> None:
        self.both("write_file", "temporary", data)
        self.both("rename", "temporary", name)
        self.compare(lambda fs: fs.exists("temporary") and fs.unlink("temporary"))

    @rule(name=names, data=contents)
    def save_by_a_link(self, name: str, data: bytes) -> None:
        self.both("write_file", "temporary", data)
        self.both("link", "temporary", name)
        self.both("unlink", "temporary")

    # -- names ---------------------------------------------------------------------------------

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        if self.may_rename(old):
            self.both("rename", old, new)

    def may_rename(self, old: str) -> bool:
        """Tell whether it is one of those renames that are compared."""
        return not os.path.isdir(self.plain.path(old)) or os.path.islink(self.plain.path(old))

    @rule(name=names)
    def unlink(self, name: str) -> None:
        self.both("unlink", name)

    @rule(name=names)
    def mkdir(self, name: str) -> None:
        self.both("mkdir", name)

    @rule(name=names)
    def rmdir(self, name: str) -> None:
        self.both("rmdir", name)

    @rule(text=st.sampled_from(["a", "b", "nowhere", "d"]), name=names)
    def symlink(self, text: str, name: str) -> None:
        self.both("symlink", text, name)

    @rule(name=names, mode=modes)
    def chmod(self, name: str, mode: int) -> None:
        if not os.path.isdir(self.plain.path(name)):
            self.both("chmod", name, mode)

    # -- looking -------------------------------------------------------------------------------

    @rule(name=names)
    def look(self, name: str) -> None:
        for what in ("read_file", "stat", "lstat", "readlink", "listdir"):
            self.both(what, name)

    @rule()
    def refresh(self) -> None:
        self.fs.refresh()

    # -- open files ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.open) < 3)
    @rule(name=top_names, flags=st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND]))
    def open_file(self, name: str, flags: int) -> None:
        fds: list[int] = []
        self.compare(lambda fs: fds.append(fs.open(name, flags)))
        if len(fds) == 2:
            self.open.append((fds[0], fds[1], name))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2), data=contents, at=st.integers(0, 40))
    def write_open(self, which: int, data: bytes, at: int) -> None:
        self.compare_open(which, lambda fs, fd: fs.pwrite(fd, data, at))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2))
    def read_open(self, which: int) -> None:
        self.compare_open(which, lambda fs, fd: fs.pread(fd, 1 << 18, 0))
        self.compare_open(which, lambda fs, fd: fs.fstat(fd).st_size)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2), size=st.integers(0, 60))
    def truncate_open(self, which: int, size: int) -> None:
        self.compare_open(which, lambda fs, fd: fs.ftruncate(fd, size))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 2))
    def close(self, which: int) -> None:
        self.compare_open(which, lambda fs, fd: fs.close(fd))
        del self.open[which % len(self.open)]

    # -- landing, others, the end and the beginning ----------------------------------------------

    @precondition(lambda self: not self.open)
    @rule()
    def land(self) -> None:
        """All is stored, and the mount shows what it showed before."""
        self.fs.land()
        self.same()

    @precondition(lambda self: not self.open)
    @rule(
        name=st.sampled_from(("a", "c", "d/a", "theirs")),
        what=st.sampled_from(["write", "remove", "directory"]),
    )
    def theirs(self, name: str, what: str) -> None:
        """Another client changes what is stored; the next look shows it."""
        self.fs.land()
        data = _theirs()
        change = {"write": _write, "remove": Path.unlink, "directory": Path.mkdir}[what]
        arguments = (data,) if what == "write" else ()
        tops = (self.there, Path(self.plain.path()))
        there, plain = (_outcome(lambda top=top: change(top / name, *arguments)) for top in tops)
        assert there == plain
        self.fs.refresh()
        self.same()

        def links() -> list[object]:
            return [_outcome(lambda fs=fs: fs.readlink(name)) for fs in (self.fs, self.plain)]

        # A list of names says nothing to the kernel, which answers this by what it believes.
        wait_for(lambda: links()[0] == links()[1], 3)

    @precondition(lambda self: not self.open)
    @rule(name=top_names, data=contents)
    def both_edit(self, name: str, data: bytes) -> None:
        """Both change one file at a time: theirs stays, ours is kept beside it."""
        path = Path(self.plain.path(name))
        if not self.patient or path.is_symlink() or not path.is_file():
            return
        self.fs.land()
        ours = b"ours " + data
        self.fs.write_file(name, ours)
        theirs = _theirs()
        (self.there / name).write_bytes(theirs)
        self.fs.land()
        path.write_bytes(theirs)
        path.with_name(f"{name}.conflict-").write_bytes(ours)
        path.with_name(f"{name}.conflict-").chmod(stat.S_IMODE(path.stat().st_mode))
        self.fs.refresh()
        self.same()
        # The name's second copy of this second would have to wait.
        for each in self.there.glob(f"{name}.conflict-*"):
            each.unlink()
        path.with_name(f"{name}.conflict-").unlink()
        self.fs.refresh()
        self.same()

    @precondition(lambda self: not self.open)
    @rule()
    def crash(self) -> None:
        """The mount's process is killed; the next one shows all that was there."""
        self.site.kill()
        self.site.mount()
        self.same()

    @precondition(lambda self: not self.open)
    @rule()
    def remount(self) -> None:
        """Unmounted in order, everything has been stored."""
        self.site.unmount()
        assert self.on_cluster() == self.tree(self.plain)
        self.site.mount()
        self.same()

    # -- comparing -----------------------------------------------------------------------------

    def both(self, what: str, *arguments: Any) -> None:
        """Do the same on both; what comes of it must be the same."""
        self.compare(lambda fs: getattr(fs, what)(*arguments))

    def compare(self, act: Any) -> None:
        """As `both`, for any call with a driver."""
        ours, theirs = (_outcome(lambda fs=fs: act(fs)) for fs in (self.fs, self.plain))
        assert ours == theirs

    def compare_open(self, which: int, act: Any) -> None:
        """As `compare`, for any call with a driver and the descriptor that it has."""
        fds = self.open[which % len(self.open)]
        ours = _outcome(lambda: act(self.fs, fds[0]))
        theirs = _outcome(lambda: act(self.plain, fds[1]))
        assert ours == theirs

    def same(self) -> None:
        """Both trees look the same; the kernel believes for a second that a name is what it was."""
        wait_for(lambda: self.names(self.fs) == self.names(self.plain), 3)
        assert self.tree(self.fs) == self.tree(self.plain)

    def names(self, fs: KernelDriver) -> object:
        """Return all names, with what they are as far as that costs nothing."""
        try:
            return {path: each if each[0] == "link" else each[:2] for path, each in self.walk(fs)}
        except OSError as exc:
            return str(exc)

    def tree(self, fs: KernelDriver) -> dict[str, tuple[Any, ...]]:
        """Return all that is there."""
        found = {}
        for path, each in self.walk(fs):
            found[path] = (*each, fs.read_file(path)) if each[0] == "file" else each
        return {_CONFLICT.sub(".conflict-", path): each for path, each in found.items()}

    def on_cluster(self) -> dict[str, tuple[Any, ...]]:
        """Return what the cluster has."""
        found = self.tree(KernelDriver(self.there))
        return {path: each for path, each in found.items() if not (self.litter and is_ours(path))}

    def walk(self, fs: KernelDriver, top: str = "") -> list[tuple[str, tuple[Any, ...]]]:
        """Return the paths below *top* with kind, mode and size, or the text of a link."""
        found: list[tuple[str, tuple[Any, ...]]] = []
        for name in sorted(fs.listdir(top)):
            path = f"{top}/{name}".lstrip("/")
            shape = _shape(fs.lstat(path))
            if shape[0] == "link":
                shape = ("link", fs.readlink(path))
            found.append((path, shape))
            if shape[0] == "directory":
                found += self.walk(fs, path)
        return found


def _outcome(act: Any) -> object:
    try:
        result = act()
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, str(exc))
    if isinstance(result, os.stat_result):
        return _shape(result)
    return sorted(result) if isinstance(result, list) else result


def _shape(status: os.stat_result) -> tuple[Any, ...]:
    if stat.S_ISLNK(status.st_mode):
        return ("link",)
    if stat.S_ISDIR(status.st_mode):
        return ("directory", mode_of(status))
    return ("file", mode_of(status), status.st_size)


def _make(fs: KernelDriver, path: str, data: bytes) -> int:
    fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        return fs.write(fd, data)
    finally:
        fs.close(fd)


def _overwrite(fs: KernelDriver, path: str, data: bytes, at: int) -> bytes:
    fd = fs.open(path, os.O_RDWR)
    try:
        fs.pwrite(fd, data, at)
        return fs.pread(fd, 1 << 18, 0)
    finally:
        fs.close(fd)


def _write(path: Path, data: bytes) -> None:
    if not path.is_symlink():
        path.write_bytes(data)


def _theirs() -> bytes:
    """Return what another client writes: two of one size in one second can't be told apart."""
    number = next(_numbers)
    return b"theirs %d " % number + b"." * (1000 + number)
