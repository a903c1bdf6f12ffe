"""As `test_model`, with all that the log of operations brings: directories, times, open files.

Directories are renamed as files are, times are kept, and the mount dies with files open.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ..crash.site import Nursery
from .machine import MountMachine, contents, modes, names, top_names
from .test_model import NewSite, run, sites

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(3600)]

_SECOND = 10**9
times = st.sampled_from([1, 10**18, 1_600_000_000_123_456_789, 2 * 10**18 + 7])


class WholeMachine(MountMachine):
    """More rules."""

    litter = False

    def may_rename(self, old: str) -> bool:
        return True

    @rule(name=names, mode=modes)
    def chmod_directory(self, name: str, mode: int) -> None:
        if os.path.isdir(self.plain.path(name)):
            self.both("chmod", name, mode | 0o700)

    @rule(name=names, atime=times, mtime=times)
    def utime(self, name: str, atime: int, mtime: int) -> None:
        """Times of files are shown at once."""
        if not self.is_file(name):
            return
        self.both("utime", name, atime, mtime)
        self.compare(lambda fs: fs.stat(name).st_mtime_ns)

    @precondition(lambda self: not self.open)
    @rule(name=names, mtime=times)
    def a_time_stays(self, name: str, mtime: int) -> None:
        """As `cp -p` sets it: after the store and the death of the mount, and on the cluster."""
        if not self.is_file(name):
            return
        unit = 1
        with contextlib.suppress(OSError):
            # Where it has that time already there is nothing to keep, and listings tell seconds.
            unit = _SECOND if (self.there / name).stat().st_mtime_ns == mtime else 1
        self.both("utime", name, mtime, mtime)
        self.site.kill()
        self.site.mount()
        self.compare(lambda fs: fs.stat(name).st_mtime_ns // unit)
        self.fs.land()
        self.fs.refresh()
        self.compare(lambda fs: fs.stat(name).st_mtime_ns // unit)
        assert (self.there / name).stat().st_mtime_ns == mtime

    @precondition(lambda self: not self.open)
    @rule(name=top_names, data=contents, flags=st.sampled_from([0, os.O_TRUNC, os.O_APPEND]))
    def die_with_an_open_file(self, name: str, data: bytes, flags: int) -> None:
        """What was written since the last close is set aside; what was closed is there."""
        if not self.is_file(name):
            return
        fd = self.fs.open(name, os.O_RDWR | flags)
        self.fs.write(fd, data or b"begun")
        self.site.kill()
        with contextlib.suppress(OSError):
            self.fs.close(fd)
        self.site.mount()
        self.same()

    def is_file(self, name: str) -> bool:
        """Tell whether *name* is a file, and no link to one."""
        with contextlib.suppress(OSError):
            return stat.S_ISREG(os.lstat(self.plain.path(name)).st_mode)
        return False


@pytest.fixture
def new_site(nursery: Nursery, tmp_path: Path) -> Iterator[NewSite]:
    """A call that mounts a site of the test's own."""
    yield from sites(nursery, tmp_path)


def test_while_stores_are_under_way(new_site: NewSite) -> None:
    run(WholeMachine, site=new_site(write_back=0.02))


def test_with_everything_pending(new_site: NewSite) -> None:
    run(WholeMachine, site=new_site(write_back=600.0), patient=True)
