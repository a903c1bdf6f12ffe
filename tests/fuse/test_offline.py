"""A server that is out of reach: what is known stays readable, changes wait, nothing hangs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..harness import EmulatorProcess, Mounted, free_port, local_home, wait_for
from .conftest import Mounting

pytestmark = pytest.mark.fuse

#: So short that what was listed is old at once.
OLD = ["ttl=0", "negative_ttl=0", "op_timeout=30"]


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[EmulatorProcess]:
    """A server that may be stopped."""
    with EmulatorProcess(tmp_path / "failing", port=free_port(), steady=True) as server:
        yield server


@pytest.fixture
def mounted(failing: EmulatorProcess, mounting: Mounting) -> Mounted:
    found = mounting(failing, options=OLD)
    assert found.mount().returncode == 0
    return found


def home_of(mounted: Mounted, server: EmulatorProcess) -> Path:
    system = server.info["systems"][0]
    return Path(f"{mounted.path}/{system['name']}{system['home']}")


def status(mounted: Mounted) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mounted.cli("status", mounted.path, "--json").stdout)
    return found


def landed(path: Path, data: bytes) -> bool:
    return wait_for(lambda: path.exists() and path.read_bytes() == data, 60)


@contextlib.contextmanager
def gone(server: EmulatorProcess, how: str) -> Iterator[None]:
    """Take the server away, in one of the ways in which servers go."""
    if how == "refused":
        server.stop()
    elif how == "silent":
        os.kill(server.info["pid"], signal.SIGSTOP)
    else:
        status = {"502": 502, "503": 503, "302": 302}[how]
        page = "<html>Sorry</html>"
        rule = {"kind": "status", "match": "*", "status": status, "body": page, "count": -1}
        server.faults([rule])
    try:
        yield
    finally:
        if how == "refused":
            server.start_again()
        elif how == "silent":
            os.kill(server.info["pid"], signal.SIGCONT)
        else:
            server.faults([])


@pytest.mark.parametrize("how", ["refused", "silent", "502", "503", "302"])
def test_work_goes_on_without_the_server(
    failing: EmulatorProcess, mounted: Mounted, how: str
) -> None:
    home, there = home_of(mounted, failing), local_home(failing)
    (there / "read").write_bytes(b"content")
    (there / "unread").write_bytes(b"unread")
    (there / "d").mkdir()
    with mounted.watching(120):
        listed = sorted(os.listdir(home))
        os.stat(home / "d")
        assert (home / "read").read_bytes() == b"content"
        with gone(failing, how):
            # The first call may have to find out; what is known stays, however old it is.
            assert sorted(os.listdir(home)) == listed
            start = time.monotonic()
            assert (home / "read").read_bytes() == b"content"
            assert os.stat(home / "read").st_size == 7
            for name in ("new", "read"):
                (home / name).write_bytes(b"while it was away")
                assert (home / name).read_bytes() == b"while it was away"
            assert sorted(os.listdir(home)) == sorted([*listed, "new"])
            # What was never known is neither absent nor empty.
            for look in (lambda: os.listdir(home / "d"), lambda: os.stat(home / "d/f")):
                with pytest.raises(OSError) as refusal:
                    look()
                assert not isinstance(refusal.value, FileNotFoundError)
            with pytest.raises(OSError) as refusal:
                (home / "unread").read_bytes()
            assert not isinstance(refusal.value, FileNotFoundError)
            # Dozens of calls, and none of them waits for a timeout of the network.
            assert time.monotonic() - start < 30
            away = status(mounted)["unreachable"]
            assert away["since"] <= time.time()
            assert away["reason"]
            assert "unreachable since" in mounted.cli("status", mounted.path).stdout
        for name in ("new", "read"):
            assert landed(there / name, b"while it was away")
        assert wait_for(lambda: status(mounted)["unreachable"] is None)
        assert (home / "unread").read_bytes() == b"unread"
        assert os.listdir(home / "d") == []
    assert [name for name in os.listdir(there) if "conflict" in name] == []


def test_a_real_answer_is_never_overruled(failing: EmulatorProcess, mounted: Mounted) -> None:
    home, there = home_of(mounted, failing), local_home(failing)
    (there / "f").write_bytes(b"x")
    with mounted.watching():
        assert (home / "f").read_bytes() == b"x"
        (there / "f").unlink()
        assert wait_for(lambda: not (home / "f").exists(), 5)
        assert "f" not in os.listdir(home)


def test_an_idle_mount_is_silent_although_its_server_is_gone(
    failing: EmulatorProcess, mounted: Mounted
) -> None:
    home = home_of(mounted, failing)
    with mounted.watching(60):
        os.listdir(home)
        with gone(failing, "503"):
            os.listdir(home)
            time.sleep(1)
            failing.requests(reset=True)
            time.sleep(12)
            assert failing.requests() == []


def test_calls_share_one_probe(failing: EmulatorProcess, mounted: Mounted) -> None:
    """A build that looks at a thousand files doesn't ask a thousand times whether it is back."""
    home = home_of(mounted, failing)
    with mounted.watching(60):
        os.listdir(home)
        failing.requests(reset=True)
        with gone(failing, "503"):
            start = time.monotonic()
            for number in range(200):
                with contextlib.suppress(OSError):
                    os.stat(home / f"f{number}")
            seconds = time.monotonic() - start
            asked = len(failing.requests())
        assert asked < 10 + 2 * seconds


@pytest.mark.parametrize("how", ["refused", "silent", "503"])
def test_it_mounts_without_the_server_and_takes_up_what_was_left(
    failing: EmulatorProcess, mounting: Mounting, how: str
) -> None:
    """A laptop that starts on a train: what was saved before goes on its way when it is back."""
    options = [*OLD, "write_back=2"]
    mounted = mounting(failing, options=options)
    assert mounted.mount().returncode == 0
    home, there = home_of(mounted, failing), local_home(failing)
    system = failing.info["systems"][0]["name"]
    with mounted.watching(60):
        (home / "paper.tex").write_bytes(b"the only copy")
    mounted.kill()
    with gone(failing, how):
        found = mounted.mount()
        assert found.returncode == 0, found.stderr
        assert "goes on by itself" in found.stderr
        with mounted.watching(120):
            assert system in os.listdir(mounted.path)
            with pytest.raises(OSError) as refusal:
                os.listdir(home)
            assert not isinstance(refusal.value, FileNotFoundError)
            # What waits is told, and nobody is told that it landed.
            assert wait_for(lambda: status(mounted)["pending"][0]["error"] != "", 60)
            synced = mounted.cli("sync", mounted.path)
            assert synced.returncode != 0
            assert system in synced.stdout + synced.stderr
    assert landed(there / "paper.tex", b"the only copy")
    with mounted.watching(60):
        assert (home / "paper.tex").read_bytes() == b"the only copy"
        assert mounted.cli("sync", mounted.path).returncode == 0
    assert sorted(os.listdir(there)) == ["paper.tex"]


def test_a_server_that_was_never_mounted_must_be_there(
    failing: EmulatorProcess, mounting: Mounting
) -> None:
    mounted = mounting(failing, options=OLD)
    with gone(failing, "refused"):
        found = mounted.mount()
    assert found.returncode != 0
    assert "can't be reached" in found.stderr


def test_what_is_left_waits_for_a_system_that_is_down(
    failing: EmulatorProcess, mounting: Mounting
) -> None:
    """The server answers, the cluster behind it doesn't: nobody looks into it, and it lands."""
    mounted = mounting(failing, options=[*OLD, "write_back=2"])
    assert mounted.mount().returncode == 0
    home, there = home_of(mounted, failing), local_home(failing)
    with mounted.watching(60):
        (home / "f").write_bytes(b"saved")
    mounted.kill()
    rule = {"kind": "status", "match": "*userinfo*", "status": 500, "body": "{}", "count": -1}
    failing.faults([rule])
    assert mounted.mount().returncode == 0
    with mounted.watching(120):
        assert wait_for(lambda: status(mounted)["pending"][0]["error"] != "", 60)
        assert mounted.cli("sync", mounted.path).returncode != 0
        failing.faults([])
        assert mounted.cli("sync", mounted.path).returncode == 0
        assert (there / "f").read_bytes() == b"saved"
