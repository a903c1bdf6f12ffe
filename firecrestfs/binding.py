"""The FUSE library: which binding is loaded, how it is set, and the call that mounts.

This is the only module that imports one: `mfusepy` where it is installed, else `fuse` (fusepy).
They share an interface; where they differ, the difference is in here.
"""

from __future__ import annotations

import codecs
import errno
import importlib
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

BINDINGS = ("mfusepy", "fuse")
#: Reads ahead that may wait at the same time: the kernel holds back all further ones, of any file.
MAX_BACKGROUND = 1024
#: Threads of libfuse 3, where it has a bound: one for each call that waits, some for the others.
MAX_THREADS = 640
_PATH_ENCODING = "utf-8-firecrestfs"


def load_binding(name: str = "") -> ModuleType:
    """Import the FUSE binding *name*, or the first of `BINDINGS` that loads.

    Raises `OSError` with what to install where none does.
    """
    reasons = []
    for each in (name,) if name else BINDINGS:
        try:
            return importlib.import_module(each)
        except (ImportError, OSError, AttributeError) as exc:
            reasons.append(f"{each}: {exc}")
    raise OSError(
        errno.ENOSYS,
        "no FUSE library could be loaded (" + "; ".join(reasons) + "): "
        "install the packages fuse3 and libfuse2",
    )


def describe_binding(binding: ModuleType) -> str:
    """Return the name of *binding* and of the library it has loaded."""
    return f"{binding.__name__} with {binding._libfuse._name}"


def wants_callable(binding: ModuleType) -> bool:
    """Tell whether *binding* calls the operations object with the name of each operation."""
    return binding.__name__ != "mfusepy"


def _is_libfuse3(binding: ModuleType) -> bool:
    return int(getattr(binding, "fuse_version_major", 2)) == 3


def fuse_settings(binding: ModuleType, fsname: str) -> dict[str, Any]:
    """Return the mount options for *binding*: the table of FUSE settings."""
    settings: dict[str, Any] = {
        "foreground": True,
        "fsname": fsname,
        "subtype": "firecrestfs",
        # Inodes are ours and stable: programs recognise files by them across remounts.
        "use_ino": True,
        # The kernel believes attributes and absences not at all: the cache here knows better.
        "attr_timeout": 0,
        "negative_timeout": 0,
        "entry_timeout": 1,
    }
    if _is_libfuse3(binding):
        if binding.fuse_version_minor >= 12:
            # Calls that wait for the network hold a thread each; `ls` must find one free.
            settings["max_threads"] = MAX_THREADS
        return settings
    # Without them writes come in 4 KiB pieces, and O_TRUNC as a truncation by path.
    return settings | {
        "big_writes": True,
        "atomic_o_trunc": True,
        "max_background": MAX_BACKGROUND,
    }


def run_fuse(
    binding: ModuleType, operations: object, mountpoint: str, options: Mapping[str, Any]
) -> None:
    """Mount at *mountpoint* and serve until it is unmounted. Raises `OSError` where it can't.

    Not for the main thread: signals are handled there.
    """
    _register_path_codec()
    # mfusepy decodes names of any bytes by itself.
    extra: dict[str, Any] = {"encoding": _PATH_ENCODING} if wants_callable(binding) else {}
    kind = _with_open_files(binding.FUSE) if _is_libfuse3(binding) else binding.FUSE
    try:
        kind(operations, mountpoint, raw_fi=True, **extra, **options)
    except RuntimeError as exc:
        raise OSError(errno.EIO, f"FUSE could not mount {mountpoint} (code {exc})") from exc


def _with_open_files(fuse: Any) -> Any:
    """Return mfusepy's class *fuse* so that it lets operations know which open file they are on.

    It drops that, and of what is open libfuse 3 gives no path.
    """

    class Fuse(fuse):  # type: ignore[misc]
        def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> int:
            if path is None:
                return int(self.operations.truncate(None, length, fip.contents))
            return int(super().truncate_fuse_3(path, length, fip))

        def chmod_fuse_3(self, path: bytes | None, mode: int, fip: Any) -> int:
            return int(super().chmod_fuse_3(self._path(path, fip), mode, fip))

        def chown_fuse_3(self, path: bytes | None, uid: int, gid: int, fip: Any) -> int:
            return int(super().chown_fuse_3(self._path(path, fip), uid, gid, fip))

        def utimens_fuse_3(self, path: bytes | None, times: Any, fip: Any) -> int:
            return int(super().utimens_fuse_3(self._path(path, fip), times, fip))

        def _path(self, path: bytes | None, fip: Any) -> bytes:
            if path is not None:
                return path
            return str(self.operations.path_of(fip.contents.fh)).encode("utf-8", "surrogateescape")

    return Fuse


def _register_path_codec() -> None:
    """Make names of any bytes pass fusepy, which decodes strictly."""

    def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
        return text.encode("utf-8", "surrogateescape"), len(text)

    def decode(data: Any, errors: str = "strict") -> tuple[str, int]:
        return codecs.utf_8_decode(data, "surrogateescape", True)

    def search(name: str) -> codecs.CodecInfo | None:
        if name.replace("_", "-") != _PATH_ENCODING:
            return None
        return codecs.CodecInfo(encode, decode, name=_PATH_ENCODING)

    with suppress(LookupError):
        codecs.lookup(_PATH_ENCODING)
        return
    codecs.register(search)
