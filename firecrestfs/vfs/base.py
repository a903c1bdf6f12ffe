"""The interface of every file system in the mount. What isn't overridden refuses.

Paths are absolute within the file system. All methods may be called from any thread and raise
only `OSError`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry

#: For files whose content is made on each read: the kernel must not cache it.
ENODATA = errno.ENODATA


class OpenFile:
    """One open(2). `direct_io` and `keep_cache` tell the kernel how to treat its pages."""

    direct_io = False
    keep_cache = False

    def read(self, size: int, offset: int) -> bytes:
        """Return up to *size* bytes from *offset*, fewer only at the end."""
        raise os_error(errno.EBADF)

    def write(self, data: bytes, offset: int) -> int:
        """Write *data* at *offset* and return how much was taken."""
        raise os_error(errno.EBADF)

    def truncate(self, size: int) -> None:
        """Cut or extend to *size* bytes."""
        raise os_error(errno.EINVAL)

    def getattr(self) -> Attr | None:
        """Return the attributes of the open file, or None to ask by path."""
        return None

    def flush(self) -> None:
        """One descriptor was closed; an error here is what close(2) returns."""

    def fsync(self) -> None:
        """Make what was written survive a power loss."""

    def release(self) -> None:
        """The last descriptor is gone; errors are nobody's to see."""


class Filesystem:
    """One file system of the mount table."""

    def getattr(self, path: str) -> Attr:
        """Return the attributes of *path* as the mount shows them."""
        raise os_error(errno.ENOENT, path)

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return all entries of the directory *path*, without `.` and `..`."""
        raise os_error(errno.ENOTDIR, path)

    def readlink(self, path: str) -> str:
        """Return the text of the symlink *path*."""
        raise os_error(errno.EINVAL, path)

    def access(self, path: str, mask: int) -> None:
        """Raise EACCES where the bits of *mask* (`os.R_OK` …) aren't granted."""
        self.getattr(path)

    def open(self, path: str, flags: int) -> OpenFile:
        """Open the existing file *path*; *flags* are those of open(2)."""
        raise os_error(errno.EACCES, path)

    def create(self, path: str, flags: int, mode: int) -> OpenFile:
        """Make and open the file *path*."""
        raise os_error(errno.EROFS, path)

    def truncate(self, path: str, size: int) -> None:
        """Cut or extend the file *path* to *size* bytes."""
        raise os_error(errno.EROFS, path)

    def unlink(self, path: str) -> None:
        """Remove the non-directory *path*."""
        raise os_error(errno.EPERM, path)

    def mkdir(self, path: str, mode: int) -> None:
        """Make the directory *path*."""
        raise os_error(errno.EPERM, path)

    def rmdir(self, path: str) -> None:
        """Remove the empty directory *path*."""
        raise os_error(errno.EPERM, path)

    def rename(self, old: str, new: str) -> None:
        """Rename *old* to *new*, replacing what may be there."""
        raise os_error(errno.EPERM, old)

    def moved_in(self, path: str) -> None:
        """Refuse that an entry of another file system becomes *path*: programs copy it then."""
        raise os_error(errno.EXDEV, path)

    def symlink(self, target: str, path: str) -> None:
        """Make the symlink *path* with the text *target*."""
        raise os_error(errno.EPERM, path)

    def link(self, old: str, new: str) -> None:
        """Make *new* a hard link to *old*."""
        raise os_error(errno.EPERM, new)

    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits of *path*."""
        raise os_error(errno.EPERM, path)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Set the local owner and group of *path*; -1 leaves one as it is."""
        raise os_error(errno.EPERM, path)

    def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Set the times of *path* (epoch nanoseconds); None leaves one as it is."""
        raise os_error(errno.EPERM, path)

    def getxattr(self, path: str, name: str) -> bytes:
        """Return the value of the extended attribute *name*. Raises ENODATA where there is none."""
        raise os_error(errno.ENODATA, path)

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        """Set the extended attribute *name*. Raises ENOTSUP for those that can't be set."""
        raise os_error(errno.ENOTSUP, path)

    def refresh(self, path: str) -> None:
        """Forget attributes, listings and absences at and below *path*."""
