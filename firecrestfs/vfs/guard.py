"""Names that never travel to a cluster, and names that can't.

Desktops probe every directory for files of their own. Such names are answered here: a probe is
never worth a request, and the litter of one user's desktop is nothing for a shared file system.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from firecrestfs.errors import os_error

#: Names of libfuse's own: open files that were unlinked.
HIDDEN_PREFIX = ".fuse_hidden"

_NAME_BYTES = 255
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "autorun.inf", ".localized"})
#: What rsync (`.NAME.Xy12Zz`) and editors write beside a file whose name begins with `_`.
_TEMPORARY = re.compile(r"\._.*\.([A-Za-z0-9]{6}|sw[a-z]x?|kate-swp|part|tmp)", re.DOTALL)
_PROBES = frozenset(
    {".hidden", ".directory", ".xdg-volume-info", ".xdg-volume-icon", ".Trash", "Autorun.inf"}
)
#: Log files that FirecREST's own jobs leave in the working directory, and archives of ours.
_HOUSEKEEPING = (".fcfs-", ".f7t_file_handling_job_")
#: Comes and goes in directories while v1 looks whether an upload may be put there.
_PROBE = re.compile(r"\.firecrest\.[0-9a-f]{32}")


def is_trash(name: str) -> bool:
    """Tell whether *name* is a desktop's bin for deleted files."""
    return name == ".Trash" or name.startswith(".Trash-")


def is_litter(name: str) -> bool:
    """Tell whether a file *name* stays on this machine, for the life of the mount."""
    return name in _LITTER or (name.startswith("._") and not _TEMPORARY.fullmatch(name))


def is_probe(name: str) -> bool:
    """Tell whether asking for *name* is a desktop's habit that costs no request."""
    return name in _PROBES or is_litter(name) or is_trash(name)


def is_housekeeping(name: str) -> bool:
    """Tell whether *name* belongs to the machinery and isn't shown."""
    return name.startswith(_HOUSEKEEPING) or _PROBE.fullmatch(name) is not None


def refuse_unsendable(path: str, forbidden: Iterable[str]) -> None:
    """Raise EINVAL, with the reason, for a path that no request can carry.

    *forbidden* are the characters, and sequences of them, that the server's version can't take.
    """
    for text in forbidden:
        if text in path:
            what = "two spaces in a row" if text.isspace() and len(text) > 1 else repr(text)
            raise os_error(
                errno.EINVAL, path, f"FirecREST can't carry a name with {what} in it; rename it"
            )
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise os_error(
            errno.EINVAL, path, "FirecREST can't carry a name that is not UTF-8; rename it"
        ) from None


def refuse_uncarriable(path: str, forbidden: Iterable[str]) -> None:
    """Raise EINVAL for a file that not even a tar can carry: below a directory of such a name."""
    directory, _, name = path.rpartition("/")
    if "\0" in name:
        raise os_error(errno.EINVAL, path)
    refuse_unsendable(directory, forbidden)


def refuse_too_long(path: str) -> None:
    """Raise ENAMETOOLONG for a name that no file system of a cluster takes."""
    name = path.rpartition("/")[2]
    if len(name.encode("utf-8", "surrogateescape")) > _NAME_BYTES:
        raise os_error(errno.ENAMETOOLONG, path)


def refuse_housekeeping(name: str, path: str) -> None:
    """Raise EPERM for names that the mount keeps for itself; they would vanish from sight."""
    if is_housekeeping(name):
        raise os_error(errno.EPERM, path, "names that begin like this are kept for firecrestfs")
    if is_trash(name):
        raise os_error(
            errno.EPERM, path, "there is no bin on a cluster: delete permanently instead"
        )
