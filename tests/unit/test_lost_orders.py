"""Uploads that were ordered, of which nobody wrote down that they were: their jobs are ended."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api.tickets import Ticket
from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.database import Database
from firecrestfs.cache.transfers import Transfers
from firecrestfs.emulator import Emulator
from firecrestfs.errors import os_error
from firecrestfs.transfer.given_up import GivenUp
from firecrestfs.transfer.leftovers import Leftovers

from .large import Start, ask, blob, jobs, ours, sync
from .tools import Remote, in_thread, wait_until


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let those who order uploads get no further than the answer; set once one has got there."""
    order, answered = TypedClient.order_upload, threading.Event()

    def ordered(*args: Any, **options: Any) -> None:
        order(*args, **options)
        answered.set()
        threading.Event().wait()

    monkeypatch.setattr(TypedClient, "order_upload", ordered)
    return answered


def orders(client: TypedClient, tmp_path: Path) -> tuple[GivenUp, Transfers]:
    """Return what looks after orders, and what is written down of them."""
    transfers = Transfers(Database(tmp_path / "orders"))
    leftovers = Leftovers(client, "cluster", transfers)
    return GivenUp(client, "cluster", transfers, leftovers, threading.Event()), transfers


def died(start: Start, emulator: Emulator, answered: threading.Event) -> str:
    """Return the job of an upload that was ordered by a mount that lived no longer."""
    emulator.knobs.put("poll_interval", 60.0)
    start().create("f", blob())
    assert answered.wait(20)
    wait_until(lambda: len(jobs(emulator)) == 1, 20)
    return jobs(emulator)[0]


@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "unlinked"])
def test_a_death_between_the_order_and_the_note_of_it(
    start: Start,
    emulator: Emulator,
    there: Remote,
    answered: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    wanted: bool,
) -> None:
    lost = died(start, emulator, answered)
    monkeypatch.undo()
    files = start(write_back=0.01 if wanted else 1000.0)
    if not wanted:
        files.ops.unlink(files.path("f"))
    wait_until(lambda: lost not in jobs(emulator), 20)
    emulator.knobs.put("poll_interval", 0.2)
    sync(files)
    assert there.names() == ["f"] * wanted
    wait_until(lambda: jobs(emulator) == [], 20)
    assert ours(there) == []
    # Nothing is left to be looked for by the next one.
    start()
    emulator.requests.clear()
    start()
    assert ask(emulator, "jobs/list") == ask(emulator, "jobs/metadata") == 0


def test_jobs_of_others_go_on(
    start: Start,
    emulator: Emulator,
    there: Remote,
    answered: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    client: TypedClient,
) -> None:
    """An upload by another program, and one of ours that is written down."""
    monkeypatch.undo()
    other = client.order_upload("cluster", there / "other", 1000)
    assert other is not None
    files = start()
    emulator.knobs.put("poll_interval", 60.0)
    files.create("f", blob())
    wait_until(lambda: ask(emulator, "store/complete") == 1, 20)
    [first, second] = jobs(emulator)
    start(write_back=1000.0)
    assert jobs(emulator) == [first, second]
    assert ask(emulator, "jobs/list") == 0
    other.give_up()


def test_an_answer_that_was_lost(start: Start, emulator: Emulator, there: Remote) -> None:
    emulator.faults.add("lost_answer", "transfer/upload")
    files = start()
    emulator.knobs.put("slots", 1)
    files.create("f", blob())
    sync(files)
    assert (there.local / "f").read_bytes() == blob()
    assert ask(emulator, "transfer/upload") == 2
    wait_until(lambda: jobs(emulator) == [], 20)
    assert ours(there) == []


def test_one_that_was_refused_is_not_looked_for(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    emulator.faults.add("status", "transfer/upload", status=403)
    files = start()
    files.create("f", blob())
    wait_until(lambda: ask(emulator, "transfer/upload") > 0, 20)
    start()
    assert ask(emulator, "jobs/list") == 0


def test_an_answer_that_comes_while_another_is_looked_for(
    emulator: Emulator,
    there: Remote,
    client: TypedClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no more among those that are waited for then, and is none that got lost."""
    given_up, _ = orders(client, tmp_path)
    before = jobs(emulator)
    lost = given_up.ordering(there / "lost", there / "lost")
    given_up.ordered(lost, os_error(errno.EAGAIN, None, "no answer"))
    mine = given_up.ordering(there / "mine", there / "mine")
    end_order, tickets = TypedClient.end_order, list[Ticket]()

    def ended(self: TypedClient, system: str, path: str) -> bool:
        if not tickets:
            tickets.append(client.order_upload("cluster", there / "mine", 1000))
            given_up.ordered(mine)
        return end_order(self, system, path)

    monkeypatch.setattr(TypedClient, "end_order", ended)
    given_up.end_orders()
    [job] = [each for each in jobs(emulator) if each not in before]
    tickets[0].give_up()
    wait_until(lambda: job not in jobs(emulator), 20)


def test_where_the_server_does_not_tell_what_jobs_run(
    emulator: Emulator,
    there: Remote,
    client: TypedClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing can be ended then, and what else there is to sweep is swept."""
    given_up, transfers = orders(client, tmp_path)
    other = client.order_upload("cluster", there / "other", 1000)
    emulator.faults.add("status", "jobs/metadata", status=404, body={"message": "no"}, count=9)
    lost = given_up.ordering(there / "lost", there / "lost")
    given_up.ordered(lost, os_error(errno.EAGAIN, None, "no answer"))
    monkeypatch.setattr("firecrestfs.transfer.given_up._ORDERED_S", 0.0)
    given_up.sweep()
    assert transfers.uploads("cluster") == []
    other.give_up()


def test_who_looks_for_orders_meanwhile_finds_that_they_were_ended(
    emulator: Emulator,
    there: Remote,
    client: TypedClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a `sync` nothing is left, though the mount's first sweep was at it just then."""
    given_up, transfers = orders(client, tmp_path)
    lost = given_up.ordering(there / "lost", there / "lost")
    ticket = client.order_upload("cluster", there / "lost", 1000)
    given_up.ordered(lost, os_error(errno.EAGAIN, None, "no answer"))
    end_order, ended, go = TypedClient.end_order, threading.Event(), threading.Event()

    def slow(self: TypedClient, system: str, path: str) -> bool:
        done = end_order(self, system, path)
        if done:
            ended.set()
            go.wait(20)
        return done

    monkeypatch.setattr(TypedClient, "end_order", slow)
    first, _ = in_thread(given_up.sweep)
    assert ended.wait(20)
    second, _ = in_thread(given_up.sweep)
    second.join(1.0)
    assert second.is_alive() or transfers.uploads("cluster") == []
    go.set()
    for each in (first, second):
        each.join(20)
    assert transfers.uploads("cluster") == []
    ticket.give_up()
