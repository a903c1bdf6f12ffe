"""Python's thread states of threads that are not Python's: kept from call to call.

libfuse calls from threads of its own. For such a thread, CPython makes a thread state at every call
and throws it away when the call returns: memory is mapped, touched and unmapped each time, and
whatever is local to the thread is lost. That is a third of what a short operation costs. Here the
first call of a thread holds its state, and the end of the thread gives it back.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
import threading
from collections.abc import Callable
from typing import Any


class _Kept(threading.local):
    known = False


def _set_up() -> Callable[[], None]:
    """Return the call that keeps this thread's state.

    Raises `AttributeError` or `OSError` where there is no such thing.
    """
    python, threads = ctypes.pythonapi, ctypes.CDLL(None)
    current = python.PyThreadState_Get
    current.restype = ctypes.c_void_p
    bind = threads.pthread_setspecific
    bind.argtypes = (ctypes.c_uint, ctypes.c_void_p)
    # What the end of a thread calls with its state, one after the other. No function of Python's
    # could: it would run in a state made for it, as the thread has lost sight of its own by then.
    steps = (
        python.PyEval_AcquireThread,
        python.PyThreadState_Clear,
        python.PyThreadState_DeleteCurrent,
    )
    keys = [_key(threads, step) for step in steps]
    # A thread that the end of the interpreter finds here has nothing to give back to.
    for key in keys:
        atexit.register(threads.pthread_key_delete, key)
    if sorted(keys) != keys:
        raise OSError("the steps would come in another order")
    kept = _Kept()

    def keep() -> None:
        if not kept.known:
            kept.known = True
            # A thread of Python's has its state anyhow, and Python ends it. The last step is bound
            # first: what is begun is ended.
            if not _is_pythons() and not any(bind(key, current()) for key in reversed(keys)):
                python.PyGILState_Ensure()

    return keep


def _key(threads: ctypes.CDLL, end: Any) -> int:
    """Return a new key of what is specific to a thread, and goes to *end* with the thread."""
    key = ctypes.c_uint()
    if threads.pthread_key_create(ctypes.byref(key), end):
        raise OSError("there are no more keys for what is specific to a thread")
    return key.value


def _is_pythons() -> bool:
    ident = threading.get_ident()
    return any(
        each.ident == ident and not isinstance(each, threading._DummyThread)
        for each in threading.enumerate()
    )


def _nothing() -> None:
    """Do nothing: here a thread's state can't be kept."""


def keeper() -> Callable[[], None]:
    """Return what a thread calls at the begin of each operation: its state is kept from then on.

    Threads of `threading` may call it too (theirs is kept anyhow), those of `_thread` must not.
    """
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        return _nothing
    try:
        return _set_up()
    except (AttributeError, OSError):
        return _nothing
