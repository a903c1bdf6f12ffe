"""Thread states that are kept: in threads of C that call Python twice, as libfuse's do."""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections.abc import Callable

import pytest

from firecrestfs import threadstate

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sys.implementation.name != "cpython", reason="kept on CPython alone"
)

_libc = ctypes.CDLL(None)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class _Cookie(ctypes.Structure):
    _fields_ = [
        ("read", ctypes.c_void_p),
        ("write", _WRITE),
        ("seek", ctypes.c_void_p),
        ("close", _CLOSE),
    ]


_libc.fopencookie.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _Cookie)
_libc.fopencookie.restype = ctypes.c_void_p
_libc.fputc.argtypes = (ctypes.c_int, ctypes.c_void_p)


def call_twice_from_a_thread_of_c(first: Callable[[], None], second: Callable[[], None]) -> None:
    """Let one thread that Python didn't make call *first*, return from it, and call *second*."""

    def write(cookie: object, data: object, size: int) -> int:
        first()
        return size

    def close(cookie: object) -> int:
        second()
        return 0

    # What fclose(3) does with a stream: it writes what is buffered, then it closes.
    cookie = _Cookie(None, _WRITE(write), None, _CLOSE(close))
    stream = ctypes.c_void_p(_libc.fopencookie(None, b"w", cookie))
    _libc.fputc(0, stream)
    thread = ctypes.c_ulong()
    assert _libc.pthread_create(ctypes.byref(thread), None, _libc.fclose, stream) == 0
    assert _libc.pthread_join(thread, None) == 0


def number_of_states() -> int:
    """Return how many thread states this interpreter has."""
    python = ctypes.pythonapi
    python.PyInterpreterState_Get.restype = ctypes.c_void_p
    for function in (python.PyInterpreterState_ThreadHead, python.PyThreadState_Next):
        function.argtypes, function.restype = (ctypes.c_void_p,), ctypes.c_void_p
    state = python.PyInterpreterState_ThreadHead(python.PyInterpreterState_Get())
    count = 0
    while state:
        count += 1
        state = python.PyThreadState_Next(state)
    return count


class Thing:
    """Something whose end can be seen."""


def what_the_second_call_finds(keep: Callable[[], None]) -> tuple[bool, weakref.ref[Thing]]:
    """Return whether what the first call left in its thread is there, and a reference to it."""
    local = threading.local()
    found = []
    made = []

    def first() -> None:
        keep()
        local.thing = Thing()
        made.append(weakref.ref(local.thing))

    def second() -> None:
        keep()
        found.append(hasattr(local, "thing"))

    call_twice_from_a_thread_of_c(first, second)
    return found[0], made[0]


def test_a_thread_that_comes_again_finds_its_state() -> None:
    assert not what_the_second_call_finds(lambda: None)[0]  # what this is about
    assert what_the_second_call_finds(threadstate.keeper())[0]


def test_a_thread_that_ends_leaves_nothing() -> None:
    keep = threadstate.keeper()
    before = number_of_states()
    seen = []
    for _ in range(50):
        kept, reference = what_the_second_call_finds(keep)
        seen.append((kept, reference() is None))
    assert seen == [(True, True)] * 50
    assert number_of_states() == before


def test_threads_of_many_at_once() -> None:
    keep = threadstate.keeper()
    before = number_of_states()
    inside = []
    together = threading.Barrier(20, timeout=30)

    def first() -> None:
        keep()
        together.wait()
        inside.append(number_of_states())

    threads = [
        threading.Thread(target=call_twice_from_a_thread_of_c, args=(first, keep))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(inside) >= before + 20
    assert number_of_states() == before


def test_a_thread_of_python_ends_as_ever() -> None:
    keep = threadstate.keeper()
    before = number_of_states()
    for _ in range(20):
        thread = threading.Thread(target=lambda: [keep(), keep()])
        thread.start()
        thread.join()
    keep()
    assert number_of_states() == before


def test_where_states_cant_be_kept_the_call_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    found, _ = what_the_second_call_finds(threadstate.keeper())
    assert not found
