"""Processes that look into every file they see: they must not cause staged transfers by that.

By name only, never by how a process reads: an error there would break somebody's analysis.
"""

from __future__ import annotations

import enum
from pathlib import Path

#: Who reads a little of each file, to know what it is, and all of one that is to be copied.
_MANAGERS = frozenset(
    {"nautilus", "nemo", "caja", "thunar", "dolphin", "konqueror", "krusader", "pcmanfm"}
    | {"pcmanfm-qt", "spacefm", "doublecmd", "gvfsd", "gvfsd-fuse", "kioworker", "kioslave5"}
    | {"deja-dup", "deja-dup-monitor", "duplicity", "timeshift", "backintime", "backintime-qt"}
    | {"kup-daemon", "kup-filedigger", "vorta", "rsnapshot", "rdiff-backup", "grsync"}
)
#: Who makes pictures or an index of what it finds, and copies nothing.
_SNIFFERS = frozenset(
    {"tumblerd", "ffmpegthumbnailer", "gdk-pixbuf-thumbnailer", "gnome-desktop-thumbnailer"}
    | {"evince-thumbnailer", "totem-video-thumbnailer", "papers-thumbnailer", "thumbnail.so"}
    | {"tracker-extract", "tracker-extract-3", "tracker-miner-fs", "tracker-miner-fs-3"}
    | {"localsearch-3", "localsearch-extractor-3", "baloo_file", "baloo_file_extractor"}
    | {"updatedb", "updatedb.plocate", "updatedb.mlocate", "recollindex", "zeitgeist-daemon"}
)
#: A read that is no larger is a look at what the file is; a copy reads more at a time.
_LOOK_BYTES = 16 << 10


class Habit(enum.Enum):
    """What a process may cause by reading a large file that isn't here."""

    READS = "reads"  # whatever it takes
    LOOKS = "looks"  # nothing, unless it reads as for a copy
    SNIFFS = "sniffs"  # nothing
    ASKS = "asks"  # nothing: only an explicit fetch does

    def may_stage(self, size: int) -> bool:
        """Tell whether a read of *size* bytes may have the file staged."""
        return self is Habit.READS or (self is Habit.LOOKS and size > _LOOK_BYTES)


def habit_of(pid: int) -> Habit:
    """Return the habit of the process that *pid*, or one of whose threads *pid*, is."""
    names = _names_of(pid)
    if not _SNIFFERS.isdisjoint(names):
        return Habit.SNIFFS
    return Habit.READS if _MANAGERS.isdisjoint(names) else Habit.LOOKS


def _names_of(pid: int) -> set[str]:
    """Return the names of a process's program, and of the script or module that it runs."""
    if pid <= 0:
        return set()
    place = Path("/proc") / str(pid)
    try:
        status = (place / "status").read_text(errors="replace")
        group = next(line for line in status.splitlines() if line.startswith("Tgid:"))
        words = (Path("/proc") / group.split()[1] / "cmdline").read_bytes().split(b"\0")
    except (OSError, StopIteration, IndexError):
        return set()
    names = {word.rpartition(b"/")[2].decode("utf-8", "replace").lower() for word in words[:3]}
    return names - {""}
