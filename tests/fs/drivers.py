"""One interface to a mount, with and without a kernel, so that one test body runs on both.

A driver is bound to a directory of the mount; names are relative to it, names that begin with a
slash to the mount's root. What a driver raises is an `OSError` with the errno of the system call.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import errno
import json
import os
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from firecrestfs.config import Config
from firecrestfs.model import Attr, Kind
from firecrestfs.mount import Mount, build
from firecrestfs.vfs.base import Filesystem, OpenFile

from ..harness import Server

D = TypeVar("D", bound="Driver")


class Driver(ABC):
    """The system calls that a program makes on the mount."""

    base = "/"
    #: Whether calls pass the FUSE adapter, which is what writes refusals into `errors`.
    mounted_by_kernel = False

    def at(self: D, base: str) -> D:
        """Return this driver bound to the directory *base* of the mount."""
        bound = copy.copy(self)
        bound.base = base
        return bound

    def absolute(self, path: str) -> str:
        """Return *path* from the mount's root."""
        return path if path.startswith("/") else f"{self.base}/{path}" if path else self.base

    @abstractmethod
    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int: ...
    @abstractmethod
    def close(self, fd: int) -> None: ...
    @abstractmethod
    def pread(self, fd: int, size: int, offset: int) -> bytes: ...
    @abstractmethod
    def pwrite(self, fd: int, data: bytes, offset: int) -> int: ...
    @abstractmethod
    def read(self, fd: int, size: int) -> bytes: ...
    @abstractmethod
    def write(self, fd: int, data: bytes) -> int: ...
    @abstractmethod
    def ftruncate(self, fd: int, size: int) -> None: ...
    @abstractmethod
    def fstat(self, fd: int) -> Any: ...
    @abstractmethod
    def fsync(self, fd: int) -> None: ...
    @abstractmethod
    def listdir(self, path: str = "") -> list[str]: ...
    @abstractmethod
    def lstat(self, path: str = "") -> Any: ...
    @abstractmethod
    def stat(self, path: str = "") -> Any: ...
    @abstractmethod
    def access(self, path: str, mask: int) -> bool: ...
    @abstractmethod
    def mkdir(self, path: str, mode: int = 0o777) -> None: ...
    @abstractmethod
    def rmdir(self, path: str) -> None: ...
    @abstractmethod
    def unlink(self, path: str) -> None: ...
    @abstractmethod
    def rename(self, old: str, new: str) -> None: ...
    @abstractmethod
    def symlink(self, text: str, path: str) -> None: ...
    @abstractmethod
    def readlink(self, path: str) -> str: ...
    @abstractmethod
    def link(self, old: str, new: str) -> None: ...
    @abstractmethod
    def chmod(self, path: str, mode: int) -> None: ...
    @abstractmethod
    def lchmod(self, path: str, mode: int) -> None: ...
    @abstractmethod
    def chown(self, path: str, uid: int, gid: int) -> None: ...
    @abstractmethod
    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None: ...
    @abstractmethod
    def truncate(self, path: str, size: int) -> None: ...
    @abstractmethod
    def mknod(self, path: str, mode: int) -> None: ...
    @abstractmethod
    def getxattr(self, path: str, name: str) -> bytes: ...
    @abstractmethod
    def setxattr(self, path: str, name: str, value: bytes) -> None: ...
    @abstractmethod
    def listxattr(self, path: str) -> list[str]: ...
    @abstractmethod
    def statvfs(self, path: str) -> Any: ...
    @abstractmethod
    def close_all(self) -> None:
        """Close what a failed test has left open."""

    # -- what programs make of them ------------------------------------------------------------

    def read_file(self, path: str) -> bytes:
        """Return the content of *path*."""
        fd = self.open(path)
        try:
            pieces = []
            while piece := self.read(fd, 1 << 17):
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            self.close(fd)

    def write_file(self, path: str, data: bytes, mode: int = 0o666) -> None:
        """Make or overwrite *path* as `open(path, "wb")` does."""
        fd = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            at = 0
            while at < len(data):
                at += self.write(fd, data[at : at + (1 << 17)])
        finally:
            self.close(fd)

    def append(self, path: str, data: bytes) -> None:
        """Append *data* as `>> path` does."""
        fd = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            self.write(fd, data)
        finally:
            self.close(fd)

    def fsync_file(self, path: str) -> None:
        """Do what `sync FILE` does."""
        fd = self.open(path, os.O_RDWR)
        try:
            self.fsync(fd)
        finally:
            self.close(fd)

    def exists(self, path: str) -> bool:
        """Tell whether *path* is there, as `os.path.lexists`, but only ENOENT is a no."""
        try:
            self.lstat(path)
        except FileNotFoundError:
            return False
        return True

    # -- control files -------------------------------------------------------------------------

    def control(self, name: str) -> str:
        """Return the text of a file in `.firecrestfs`."""
        return os.fsdecode(self.read_file(f"/.firecrestfs/{name}"))

    def status(self) -> dict[str, Any]:
        """Return status.json."""
        found: dict[str, Any] = json.loads(self.control("status.json"))
        return found

    def pending(self) -> dict[str, dict[str, Any]]:
        """Return what has not landed at and below here, by path from here."""
        prefix = self.base.rstrip("/") + "/"
        rows = self.status()["pending"]
        return {row["path"][len(prefix) :]: row for row in rows if row["path"].startswith(prefix)}

    def errors(self) -> list[str]:
        """Return the lines of `errors` that speak of something here."""
        return [line for line in self.control("errors").splitlines() if self.base in line]

    def refresh(self, path: str = "") -> None:
        """Forget what is believed at and below *path*."""
        fd = self.open("/.firecrestfs/refresh", os.O_WRONLY)
        try:
            self.write(fd, os.fsencode(self.absolute(path)) + b"\n")
        finally:
            self.close(fd)

    def sync(self, path: str = "") -> dict[str, str]:
        """Store what is pending at and below *path*; return what did not land and why."""
        fd = self.open("/.firecrestfs/ctl", os.O_RDWR)
        try:
            self.write(fd, b"sync " + os.fsencode(self.absolute(path)) + b"\n")
            answer = b""
            while piece := self.pread(fd, 1 << 16, len(answer)):
                answer += piece
        finally:
            self.close(fd)
        failed: dict[str, str] = json.loads(answer)["failed"]
        return failed

    def land(self, path: str = "") -> None:
        """Store what is pending; all of it must land."""
        assert self.sync(path) == {}


class KernelDriver(Driver):
    """The real thing: system calls on a mountpoint."""

    mounted_by_kernel = True

    def __init__(self, mountpoint: Path) -> None:
        self.mountpoint = mountpoint
        self._fds: set[int] = set()

    def path(self, path: str = "") -> str:
        """Return where *path* lies on this machine."""
        return f"{self.mountpoint}{self.absolute(path)}"

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        fd = os.open(self.path(path), flags, mode)
        self._fds.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self._fds.discard(fd)
        os.close(fd)

    def close_all(self) -> None:
        for fd in list(self._fds):
            with contextlib.suppress(OSError):
                self.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def write(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def listdir(self, path: str = "") -> list[str]:
        return os.listdir(self.path(path))

    def lstat(self, path: str = "") -> os.stat_result:
        return os.lstat(self.path(path))

    def stat(self, path: str = "") -> os.stat_result:
        return os.stat(self.path(path))

    def access(self, path: str, mask: int) -> bool:
        return os.access(self.path(path), mask)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(self.path(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.path(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.path(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self.path(old), self.path(new))

    def symlink(self, text: str, path: str) -> None:
        os.symlink(text, self.path(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self.path(path))

    def link(self, old: str, new: str) -> None:
        os.link(self.path(old), self.path(new), follow_symlinks=False)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.path(path), mode)

    def lchmod(self, path: str, mode: int) -> None:
        # Python has no way to say this on Linux; this library's word for it is EOPNOTSUPP.
        libc = ctypes.CDLL(None, use_errno=True)
        at_fdcwd, nofollow = -100, 0x100
        if libc.fchmodat(at_fdcwd, os.fsencode(self.path(path)), mode, nofollow):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self.path(path), uid, gid)

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self.path(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self.path(path), size)

    def mknod(self, path: str, mode: int) -> None:
        os.mknod(self.path(path), mode)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self.path(path), name, follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        os.setxattr(self.path(path), name, value, follow_symlinks=False)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(self.path(path), follow_symlinks=False)

    def statvfs(self, path: str) -> os.statvfs_result:
        return os.statvfs(self.path(path))


# -- without a kernel ------------------------------------------------------------------------------


class LedOutOfTheMount(AssertionError):
    """A symlink leads to somewhere else on this machine."""


@dataclass
class _Open:
    """One descriptor."""

    handle: OpenFile
    path: str
    append: bool
    offset: int = 0


class VfsDriver(Driver):
    """What a kernel and libfuse do around the file systems of a mount, and nothing more.

    Walks paths and symlinks, keeps descriptors, hides open files that are unlinked, masks modes.
    """

    def __init__(self, mount: Mount, umask: int = 0o022) -> None:
        self.mount = mount
        self._umask = umask
        self._open: dict[int, _Open] = {}
        self._counter = [1000]

    # -- paths ---------------------------------------------------------------------------------

    def _walk(self, path: str, *, follow: bool = True) -> str:
        """Return the path in the mount that *path* leads to; its last component may be absent."""
        todo = [part for part in self.absolute(path).split("/") if part]
        done: list[str] = []
        links = 0
        while todo:
            name = todo.pop(0)
            if name == "..":
                if not done:
                    raise LedOutOfTheMount(path)
                done.pop()
                continue
            if name == ".":
                continue
            here = "/" + "/".join([*done, name])
            attr = self._attr_or_none(here)
            if attr is None:
                if todo:
                    raise OSError(errno.ENOENT, here)
            elif attr.kind is Kind.SYMLINK and (todo or follow):
                links += 1
                if links > 40:
                    raise OSError(errno.ELOOP, here)
                text = self._at(here)[0].readlink(self._at(here)[1])
                if text.startswith("/"):
                    raise LedOutOfTheMount(f"{here} -> {text}")
                todo = [part for part in text.split("/") if part] + todo
                continue
            elif todo and attr.kind is not Kind.DIRECTORY:
                raise OSError(errno.ENOTDIR, here)
            done.append(name)
        return "/" + "/".join(done)

    def _at(self, path: str) -> tuple[Filesystem, str]:
        return self.mount.namespace.route(path)

    def _attr(self, path: str) -> Attr:
        filesystem, sub = self._at(path)
        return filesystem.getattr(sub)

    def _attr_or_none(self, path: str) -> Attr | None:
        try:
            return self._attr(path)
        except FileNotFoundError:
            return None

    def _found(self, path: str, *, follow: bool = True) -> tuple[Filesystem, str]:
        return self._at(self._walk(path, follow=follow))

    # -- descriptors ---------------------------------------------------------------------------

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        creating = flags & os.O_CREAT
        where = self._walk(path, follow=not (creating and flags & os.O_EXCL))
        filesystem, sub = self._at(where)
        attr = self._attr_or_none(where)
        if attr is None:
            if not creating:
                raise OSError(errno.ENOENT, where)
            handle = filesystem.create(sub, flags, mode & ~self._umask)
        else:
            if creating and flags & os.O_EXCL:
                raise OSError(errno.EEXIST, where)
            if attr.kind is Kind.DIRECTORY and flags & os.O_ACCMODE:
                raise OSError(errno.EISDIR, where)
            handle = filesystem.open(sub, flags & ~(os.O_CREAT | os.O_EXCL))
        self._counter[0] += 1
        self._open[self._counter[0]] = _Open(handle, where, bool(flags & os.O_APPEND))
        return self._counter[0]

    def close(self, fd: int) -> None:
        each = self._open.pop(fd)
        try:
            each.handle.flush()
        finally:
            each.handle.release()
            name = each.path.rpartition("/")[2]
            if name.startswith(".fuse_hidden") and not self._is_open(each.path):
                filesystem, sub = self._at(each.path)
                filesystem.unlink(sub)

    def close_all(self) -> None:
        for fd in list(self._open):
            with contextlib.suppress(OSError):
                self.close(fd)

    def _is_open(self, path: str) -> bool:
        return any(each.path == path for each in self._open.values())

    def _hide(self, path: str) -> None:
        """Rename an open file out of sight, as libfuse does where it is unlinked."""
        self._counter[0] += 1
        hidden = f"{path.rpartition('/')[0]}/.fuse_hidden{self._counter[0]:016x}"
        filesystem, sub = self._at(path)
        filesystem.rename(sub, self._at(hidden)[1])
        self._moved(path, hidden)

    def _moved(self, old: str, new: str) -> None:
        for each in self._open.values():
            if each.path == old or each.path.startswith(old + "/"):
                each.path = new + each.path[len(old) :]

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self._open[fd].handle.read(size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return self._open[fd].handle.write(data, offset)

    def read(self, fd: int, size: int) -> bytes:
        data = self.pread(fd, size, self._open[fd].offset)
        self._open[fd].offset += len(data)
        return data

    def write(self, fd: int, data: bytes) -> int:
        each = self._open[fd]
        # With O_APPEND the kernel sends what it takes for the end, which may be anything.
        done = each.handle.write(data, 0 if each.append else each.offset)
        each.offset += done
        return done

    def ftruncate(self, fd: int, size: int) -> None:
        self._open[fd].handle.truncate(size)

    def fstat(self, fd: int) -> Any:
        # The kernel asks by path, also for fstat(2).
        return _stat_result(self._attr(self._open[fd].path))

    def fsync(self, fd: int) -> None:
        self._open[fd].handle.fsync()

    # -- names ---------------------------------------------------------------------------------

    def listdir(self, path: str = "") -> list[str]:
        where = self._walk(path)
        if self._attr(where).kind is not Kind.DIRECTORY:
            raise OSError(errno.ENOTDIR, where)
        filesystem, sub = self._at(where)
        filesystem.access(sub, os.R_OK)
        return [entry.name for entry in filesystem.readdir(sub)]

    def lstat(self, path: str = "") -> Any:
        return _stat_result(self._attr(self._walk(path, follow=False)))

    def stat(self, path: str = "") -> Any:
        return _stat_result(self._attr(self._walk(path)))

    def access(self, path: str, mask: int) -> bool:
        filesystem, sub = self._found(path)
        try:
            filesystem.access(sub, mask)
        except OSError:
            return False
        return True

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        where = self._absent(path)
        filesystem, sub = self._at(where)
        filesystem.mkdir(sub, mode & ~self._umask)

    def _absent(self, path: str) -> str:
        where = self._walk(path, follow=False)
        if self._attr_or_none(where) is not None:
            raise OSError(errno.EEXIST, where)
        return where

    def _present(self, path: str) -> str:
        where = self._walk(path, follow=False)
        self._attr(where)
        return where

    def rmdir(self, path: str) -> None:
        where = self._present(path)
        if self._attr(where).kind is not Kind.DIRECTORY:
            raise OSError(errno.ENOTDIR, where)
        filesystem, sub = self._at(where)
        filesystem.rmdir(sub)

    def unlink(self, path: str) -> None:
        where = self._present(path)
        if self._attr(where).kind is Kind.DIRECTORY:
            raise OSError(errno.EISDIR, where)
        if self._is_open(where):
            self._hide(where)
        else:
            filesystem, sub = self._at(where)
            filesystem.unlink(sub)

    def rename(self, old: str, new: str) -> None:
        source, target = self._walk(old, follow=False), self._walk(new, follow=False)
        self._attr(source)
        if source == target:
            return
        filesystem, sub = self._at(source)
        other, sub_new = self._at(target)
        if filesystem is not other:
            other.moved_in(sub_new)
        old_attr, new_attr = self._attr(source), self._attr_or_none(target)
        if new_attr is not None and old_attr.kind is not new_attr.kind:
            if new_attr.kind is Kind.DIRECTORY:
                raise OSError(errno.EISDIR, target)
            if old_attr.kind is Kind.DIRECTORY:
                raise OSError(errno.ENOTDIR, target)
        if self._is_open(target):
            self._hide(target)
        filesystem.rename(sub, sub_new)
        self._moved(source, target)

    def symlink(self, text: str, path: str) -> None:
        filesystem, sub = self._at(self._absent(path))
        filesystem.symlink(text, sub)

    def readlink(self, path: str) -> str:
        filesystem, sub = self._at(self._present(path))
        return filesystem.readlink(sub)

    def link(self, old: str, new: str) -> None:
        filesystem, sub = self._at(self._present(old))
        other, sub_new = self._at(self._absent(new))
        if filesystem is not other:
            raise OSError(errno.EXDEV, old)
        filesystem.link(sub, sub_new)

    # -- attributes ----------------------------------------------------------------------------

    def chmod(self, path: str, mode: int) -> None:
        filesystem, sub = self._found(path)
        filesystem.chmod(sub, mode)

    def lchmod(self, path: str, mode: int) -> None:
        filesystem, sub = self._found(path, follow=False)
        filesystem.chmod(sub, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        filesystem, sub = self._found(path)
        filesystem.chown(sub, uid, gid)

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        filesystem, sub = self._found(path, follow=False)
        filesystem.utimens(sub, atime_ns, mtime_ns)

    def truncate(self, path: str, size: int) -> None:
        filesystem, sub = self._found(path)
        filesystem.truncate(sub, size)

    # What the adapter alone decides is asked of the adapter.

    def mknod(self, path: str, mode: int) -> None:
        self.mount.operations.mknod(self._absent(path), mode & ~self._umask, 0)

    def getxattr(self, path: str, name: str) -> bytes:
        return self.mount.operations.getxattr(self._present(path), name)

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        self.mount.operations.setxattr(self._present(path), name, value, 0)

    def listxattr(self, path: str) -> list[str]:
        return self.mount.operations.listxattr(self._present(path))

    def statvfs(self, path: str) -> Any:
        return SimpleNamespace(**self.mount.operations.statfs(self._walk(path)))


def _stat_result(attr: Attr) -> SimpleNamespace:
    return SimpleNamespace(
        st_mode=attr.kind.type_bits | attr.mode,
        st_ino=attr.inode,
        st_nlink=attr.nlink,
        st_uid=attr.uid,
        st_gid=attr.gid,
        st_size=attr.size,
        st_mtime_ns=attr.mtime_ns,
        st_atime_ns=attr.atime_ns or attr.mtime_ns,
        st_ctime_ns=attr.ctime_ns or attr.mtime_ns,
        st_mtime=attr.mtime_ns / 1e9,
    )


def build_in_process(server: Server, home: Path, **settings: Any) -> Mount:
    """Wire a mount of *server* that no kernel knows of."""
    info = server.info
    config = Config(
        url=info["url"],
        client_id=info["client_id"],
        client_secret=info["client_secret"],
        token_url=info["token_url"],
        state_dir=str(home / "state"),
        cache_dir=str(home / "cache"),
        **settings,
    )
    binding: Any = SimpleNamespace(
        __name__="mfusepy", _libfuse=SimpleNamespace(fuse_interrupted=lambda: 0)
    )
    return build(config, binding, str(home / "mnt"))


# -- helpers of tests ------------------------------------------------------------------------------


def code_of(exc: OSError) -> str:
    """Return the name of the errno, which reads better in a failed test than its number."""
    return errno.errorcode.get(exc.errno or 0, str(exc))


def mode_of(status: Any) -> int:
    """Return the permission bits of a stat result."""
    return stat.S_IMODE(status.st_mode)
