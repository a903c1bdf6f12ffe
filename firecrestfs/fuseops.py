"""FuseOperations: the protocol adapter between FUSE and the mount table, nothing else.

Paths, open flags and `st_*` dictionaries stop here. Every operation passes one door: whatever goes
wrong leaves as an `OSError` with a positive errno. What a path looks like is decided in `vfs`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from firecrestfs.errors import os_error
from firecrestfs.vfs.base import Filesystem, OpenFile
from firecrestfs.vfs.namespace import Namespace

from . import threadstate
from .binding import MAX_BACKGROUND, wants_callable
from .door import Guarded, door
from .opened import Opened
from .statfields import SPACE, inode_of, stat_of

#: What utimensat(2) writes into tv_nsec for "now" and "leave it", as the bindings hand it on.
_UTIME_NOW, _UTIME_OMIT = 1073741823, 1073741822


class FuseOperations(Guarded):
    """The operations that libfuse calls, from many threads at once."""

    use_ns = True
    #: Let utimens tell apart what is to be left alone (libfuse 2; 3 always does).
    flag_utime_omit_ok = 1
    #: What is open is told by its number where it has no path any more (libfuse 2).
    flag_nullpath_ok = 1

    def __init__(self, namespace: Namespace, report: Callable[[str, str], None]) -> None:
        super().__init__(report)
        self._route = namespace.route
        self._opened = Opened()
        self.draining = False

    def init_with_config(self, connection: Any, config: Any) -> None:
        """Let many reads wait for large files without holding back others (mfusepy calls this)."""
        connection.max_background = MAX_BACKGROUND
        connection.congestion_threshold = MAX_BACKGROUND
        if config is not None:
            # As `flag_nullpath_ok`; of libfuse 3 what is open never has a path then.
            config.nullpath_ok = 1

    def path_of(self, number: int) -> str:
        """Return the path that what is open as *number* has now."""
        return self._opened.path(number)

    def place(self, args: tuple[Any, ...]) -> str:
        """Return the path that an operation with *args* is about."""
        if args and args[0] is None:
            return self._opened.path(_number_of(args[-1]))
        return super().place(args)

    # -- looking -------------------------------------------------------------------------------

    @door
    def getattr(self, path: str | None, fi: Any = None) -> Mapping[str, int]:
        """Return `st_*` of *path*, or of the open file behind *fi*."""
        path, handle = self._found(path, fi)
        attr = handle.getattr() if handle is not None else None
        if attr is None:
            filesystem, sub = self._route(path)
            attr = filesystem.getattr(sub)
        return stat_of(path, attr)

    @door
    def access(self, path: str, mask: int) -> int:
        """Check *mask* against the remote mode."""
        filesystem, sub = self._route(path)
        filesystem.access(sub, mask)
        return 0

    @door
    def opendir(self, path: str) -> int:
        """Check that *path* may be listed; return its number."""
        filesystem, sub = self._route(path)
        filesystem.access(sub, os.R_OK)
        return self._opened.add(path)

    @door
    def readdir(self, path: str | None, fh: int) -> list[tuple[str, Mapping[str, int], int]]:
        """Return names, kinds and inodes as a list: a generator would run outside the door."""
        path, _ = self._found(path, fh)
        filesystem, sub = self._route(path)
        dots: list[tuple[str, Mapping[str, int], int]] = [
            (name, {"st_mode": stat.S_IFDIR}, 0) for name in (".", "..")
        ]
        return dots + [
            (
                entry.name,
                {
                    "st_mode": entry.attr.kind.type_bits,
                    "st_ino": entry.attr.inode or inode_of(path, entry.name),
                },
                0,
            )
            for entry in filesystem.readdir(sub)
        ]

    @door
    def releasedir(self, path: str | None, fh: int) -> int:
        """The directory was closed."""
        self._opened.drop(fh)
        return 0

    @door
    def readlink(self, path: str) -> str:
        """Return the text of a symlink."""
        filesystem, sub = self._route(path)
        return filesystem.readlink(sub)

    @door
    def statfs(self, path: str) -> Mapping[str, int]:
        """Return constants: a cluster's free space can't be asked for, and zero stops copies."""
        return SPACE

    # -- extended attributes -------------------------------------------------------------------

    @door
    def getxattr(self, path: str, name: str, *position: int) -> bytes:
        """Answer `user.firecrest.*`; the kernel asks for security.* at every write."""
        if not name.startswith("user.firecrest."):
            raise os_error(errno.ENODATA, name)
        filesystem, sub = self._route(path)
        return filesystem.getxattr(sub, name)

    @door
    def listxattr(self, path: str) -> list[str]:
        """Return none: copying programs shall not try to carry ours."""
        return []

    @door
    def setxattr(self, path: str, name: str, value: bytes, options: int, *position: int) -> int:
        """Set what the mount itself knows; FirecREST has no extended attributes."""
        if not name.startswith("user.firecrest."):
            raise os_error(errno.ENOTSUP, name)
        filesystem, sub = self._route(path)
        filesystem.setxattr(sub, name, value)
        return 0

    @door
    def removexattr(self, path: str, name: str) -> int:
        """Refuse: FirecREST has no extended attributes."""
        raise os_error(errno.ENOTSUP, name)

    # -- open files ----------------------------------------------------------------------------

    def refused(self, name: str, args: tuple[Any, ...], exc: OSError) -> OSError:
        """Return what the kernel is told of *exc*."""
        told = super().refused(name, args, exc)
        if name == "open" and told.errno == errno.ENOENT:
            # The kernel believed in the name; now it looks it up, and makes it where it shall be.
            return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return told

    @door
    def open(self, path: str, fi: Any) -> int:
        """Open an existing file; the handle's number goes into *fi*."""
        self._refuse_writing_while_draining(fi.flags)
        filesystem, sub = self._route(path)
        self._give(fi, path, filesystem.open(sub, fi.flags))
        return 0

    @door
    def create(self, path: str, mode: int, fi: Any) -> int:
        """Make and open a file."""
        self._refuse_writing_while_draining(os.O_WRONLY)
        filesystem, sub = self._route(path)
        self._give(fi, path, filesystem.create(sub, fi.flags, stat.S_IMODE(mode)))
        return 0

    @door
    def read(self, path: str | None, size: int, offset: int, fi: Any) -> bytes:
        """Read from an open file."""
        return self._handle(fi).read(size, offset)

    @door
    def write(self, path: str | None, data: bytes, offset: int, fi: Any) -> int:
        """Write into an open file."""
        return self._handle(fi).write(data, offset)

    @door
    def truncate(self, path: str | None, length: int, fi: Any = None) -> int:
        """Cut or extend by path, or by handle where libfuse tells it."""
        if length < 0:
            raise os_error(errno.EINVAL, path)
        path, handle = self._found(path, fi)
        if handle is not None:
            handle.truncate(length)
        else:
            filesystem, sub = self._route(path)
            filesystem.truncate(sub, length)
        return 0

    @door
    def flush(self, path: str | None, fi: Any) -> int:
        """One descriptor of the file was closed."""
        self._handle(fi).flush()
        return 0

    @door
    def fsync(self, path: str | None, datasync: int, fi: Any) -> int:
        """Make what was written durable."""
        self._handle(fi).fsync()
        return 0

    @door
    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> int:
        """Accept: names are changed on the cluster before the call returns."""
        return 0

    @door
    def release(self, path: str | None, fi: Any) -> int:
        """The last descriptor is gone."""
        handle = self._opened.drop(fi.fh)
        if handle is not None:
            handle.release()
        return 0

    # -- names ---------------------------------------------------------------------------------

    @door
    def mknod(self, path: str, mode: int, dev: int) -> int:
        """Make a regular file; devices, pipes and sockets have no meaning across the network."""
        if not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            text = "a cluster's devices, pipes and sockets can't be made from here"
            raise os_error(errno.EPERM, path, text)
        self._refuse_writing_while_draining(os.O_WRONLY)
        filesystem, sub = self._route(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle = filesystem.create(sub, flags, stat.S_IMODE(mode))
        try:
            handle.flush()
        finally:
            handle.release()
        return 0

    @door
    def mkdir(self, path: str, mode: int) -> int:
        """Make a directory."""
        self._writable(path).mkdir(self._route(path)[1], stat.S_IMODE(mode))
        return 0

    @door
    def unlink(self, path: str) -> int:
        """Remove a non-directory."""
        filesystem, sub = self._route(path)
        filesystem.unlink(sub)
        return 0

    @door
    def rmdir(self, path: str) -> int:
        """Remove an empty directory."""
        filesystem, sub = self._route(path)
        filesystem.rmdir(sub)
        self._opened.removed(path)
        return 0

    @door
    def rename(self, old: str, new: str) -> int:
        """Rename within one file system; across two, programs copy."""
        filesystem, sub_old = self._route(old)
        target, sub_new = self._route(new)
        if filesystem is not target:
            target.moved_in(sub_new)
        filesystem.rename(sub_old, sub_new)
        self._opened.renamed(old, new)
        return 0

    @door
    def symlink(self, path: str, text: str) -> int:
        """Make the symlink *path* with *text*."""
        filesystem, sub = self._route(path)
        filesystem.symlink(text, sub)
        return 0

    @door
    def link(self, new: str, old: str) -> int:
        """Make *new* a hard link to *old*."""
        filesystem, sub_old = self._route(old)
        target, sub_new = self._route(new)
        if filesystem is not target:
            raise os_error(errno.EXDEV, old)
        filesystem.link(sub_old, sub_new)
        return 0

    # -- attributes ----------------------------------------------------------------------------

    @door
    def chmod(self, path: str, mode: int) -> int:
        """Set permission bits."""
        filesystem, sub = self._route(path)
        filesystem.chmod(sub, stat.S_IMODE(mode))
        return 0

    @door
    def chown(self, path: str, uid: int, gid: int) -> int:
        """Set owner and group as far as they can be."""
        filesystem, sub = self._route(path)
        filesystem.chown(sub, uid, gid)
        return 0

    @door
    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        """Set times; None for *times* means both are now."""
        filesystem, sub = self._route(path)
        now = time.time_ns()
        atime, mtime = times or (_UTIME_NOW, _UTIME_NOW)
        filesystem.utimens(sub, _time_of(atime, now), _time_of(mtime, now))
        return 0

    # -- inside --------------------------------------------------------------------------------

    def _give(self, fi: Any, path: str, handle: OpenFile) -> None:
        fi.fh = self._opened.add(path, handle)
        fi.direct_io = int(handle.direct_io)
        fi.keep_cache = int(handle.keep_cache)

    def _found(self, path: str | None, fi: Any) -> tuple[str, OpenFile | None]:
        """Return *path*, or that of what is open as *fi*, and the open file. Raises ENOENT."""
        number = _number_of(fi)
        where = self._opened.path(number) if path is None else path
        handle = self._opened.file(number)
        if not where and handle is None:
            raise os_error(errno.ENOENT, None, "it was removed while it was open")
        return where, handle

    def _handle(self, fi: Any) -> OpenFile:
        handle = self._opened.file(fi.fh)
        if handle is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return handle

    def _writable(self, path: str) -> Filesystem:
        self._refuse_writing_while_draining(os.O_WRONLY)
        return self._route(path)[0]

    def _refuse_writing_while_draining(self, flags: int) -> None:
        if self.draining and (flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC):
            raise OSError(errno.EROFS, "the mount is being taken down")


class _CallableOperations(FuseOperations):
    """As fusepy wants it: it calls the object with the name of the operation."""

    def __call__(self, name: str, *args: Any) -> Any:
        return getattr(self, name)(*args)

    def init(self, path: str) -> None:
        """Do nothing; fusepy looks for it."""

    def destroy(self, path: str) -> None:
        """Do nothing; fusepy looks for it."""


def _number_of(fi: Any) -> int:
    """Return the number in *fi*, which may be all of it; 0 where nothing is open."""
    return 0 if fi is None else int(getattr(fi, "fh", fi))


def _time_of(value: int, now: int) -> int | None:
    if value == _UTIME_NOW:
        return now
    return None if value == _UTIME_OMIT else value


def make_operations(
    binding: ModuleType, namespace: Namespace, report: Callable[[str, str], None]
) -> FuseOperations:
    """Return the operations object as *binding* wants it."""
    kind = _CallableOperations if wants_callable(binding) else FuseOperations
    operations = kind(namespace, report)
    operations.enter = threadstate.keeper()
    operations.check_interrupted = binding._libfuse.fuse_interrupted
    operations.context = getattr(binding, "fuse_get_context", operations.context)
    return operations
