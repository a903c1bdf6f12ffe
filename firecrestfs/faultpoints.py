"""Fault points: named steps at which a test lets this process die, to prove that nothing is lost.

Nothing happens at them unless `FIRECRESTFS_FAULT` names one, as `name:N`: the process then kills
itself with SIGKILL when it arrives there for the Nth time.

    file.created         a new file is in the journal, create(2) has not returned
    write.noted          the first change of a handle is in the journal, write(2) has not returned
    close.begun          close(2) was called, nothing about it is in the journal
    close.noted          the close is in the journal, close(2) has not returned
    release.begun        close(2) has returned, the settle delay has not begun
    rename.moved         a rename is done here, not yet in the journal
    rename.noted         … and in the journal
    link.noted           a second name is in the journal, link(2) has not returned
    store.begun          a batch has been taken from the queue
    change.unsent        a request that changes the cluster is about to be sent
    change.sent          … has been sent, its answer not yet read
    change.answered      … has been answered, nothing made of that yet
    store.proven         the cluster has a file, here it counts as dirty
    store.landed         … here, too, it counts as what the cluster has
    store.forgotten      … and its record is gone from the journal
    recover.begun        the records of an earlier process are about to be taken up
    recover.taken        … are taken up, the journal is as it was
    recover.done         … and knows it
"""

from __future__ import annotations

import errno
import os
import signal
import threading

_lock = threading.Lock()  # guards _left
_armed = ""
_left = 0


def arm(text: str) -> None:
    """Let the process die where *text* (`name:N`, or `name` for N = 1) says; empty: nowhere.

    Raises EINVAL where N is no positive number.
    """
    global _armed, _left
    name, _, number = text.partition(":")
    if text and not (number or "1").isdecimal():
        raise OSError(errno.EINVAL, f"a fault point is given as name:N, not as {text!r}")
    with _lock:
        _armed, _left = name, int(number or "1")


def reach(name: str) -> None:
    """Arrive at the fault point *name*. Costs a comparison where it isn't the armed one."""
    global _left
    if name != _armed:
        return
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
