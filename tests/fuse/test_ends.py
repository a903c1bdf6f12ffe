"""How a mount ends, and begins again: drained, killed, out of a server or of credentials."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import (
    FUSE_TYPE,
    EmulatorProcess,
    Mounted,
    Server,
    free_port,
    is_running,
    local_home,
    mounted_type,
    wait_for,
)
from .conftest import Mounting

pytestmark = pytest.mark.fuse

NO_UPLOADS = [{"kind": "status", "match": "ops/upload", "status": 503, "count": -1}]


def home_of(mounted: Mounted, server: Server) -> Path:
    return Path(f"{mounted.path}/cluster{server.info['systems'][0]['home']}")


def write(mounted: Mounted, server: Server, name: str, data: bytes) -> None:
    with mounted.watching():
        (home_of(mounted, server) / name).write_bytes(data)


def landed(server: Server, name: str, data: bytes, seconds: float = 15.0) -> bool:
    path = local_home(server) / name
    return wait_for(lambda: path.exists() and path.read_bytes() == data, seconds)


def why_it_waits(mounted: Mounted) -> str:
    found = json.loads(mounted.cli("status", mounted.path, "--json").stdout)
    return " ".join(row["error"] for row in found["pending"])


def ended(mounted: Mounted) -> bool:
    return wait_for(lambda: not is_running(mounted.pid), 20) and mounted_type(mounted.path) is None


# -- in order --------------------------------------------------------------------------------------


def test_umount_stores_what_was_just_written(mount: Mounted, centre: Server) -> None:
    for number in range(20):
        write(mount, centre, f"f{number}", b"%d" % number)
    done = mount.cli("umount", mount.path)
    assert (done.returncode, done.stderr) == (0, "")
    for number in range(20):
        assert (local_home(centre) / f"f{number}").read_bytes() == b"%d" % number
    assert ended(mount)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "fusermount3"])
def test_other_ends_store_too(mount: Mounted, centre: Server, how: str) -> None:
    write(mount, centre, "f", b"just in time")
    if how == "fusermount3":
        subprocess.run(["fusermount3", "-u", str(mount.path)], check=True, timeout=30)
    else:
        os.kill(mount.pid, signal.Signals[how])
    assert ended(mount)
    assert (local_home(centre) / "f").read_bytes() == b"just in time"


def test_umount_tells_what_is_not_stored(mount: Mounted, centre: Server) -> None:
    centre.faults(NO_UPLOADS)
    write(mount, centre, "f", b"kept")
    done = mount.cli("umount", mount.path, "--timeout", "1")
    assert done.returncode == 1
    assert f"{centre.info['systems'][0]['home']}/f" in done.stderr
    assert "Traceback" not in done.stderr
    assert ended(mount)
    centre.faults([])
    assert mount.mount().returncode == 0
    assert landed(centre, "f", b"kept")


def test_umount_now_keeps_what_waits_for_the_next_mount(mounting: Mounting, centre: Server) -> None:
    mounted = mounting(options=["write_back=60"])
    assert mounted.mount().returncode == 0
    centre.faults(NO_UPLOADS)
    write(mounted, centre, "f", b"kept")
    done = mounted.cli("umount", mounted.path, "--now")
    assert done.returncode == 1
    assert ended(mounted)
    assert not (local_home(centre) / "f").exists()
    centre.faults([])
    assert mounted.mount().returncode == 0
    assert mounted.cli("sync", mounted.path).returncode == 0
    assert landed(centre, "f", b"kept")


def test_a_mount_that_is_in_use_is_unmounted_too(mount: Mounted, centre: Server) -> None:
    write(mount, centre, "f", b"x")
    shell = subprocess.Popen(["sleep", "60"], cwd=home_of(mount, centre), stdout=subprocess.DEVNULL)
    try:
        done = mount.cli("umount", mount.path)
    finally:
        shell.kill()
        shell.wait(10)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert ended(mount)
    assert (local_home(centre) / "f").read_bytes() == b"x"


def test_a_mount_that_can_not_be_written_down_leaves_nothing(mounting: Mounting) -> None:
    """On a full disk, say: it would be dead, and in the way of the next."""
    mounted = mounting()
    records = mounted.home / "state/firecrestfs/mounts"
    records.parent.mkdir(parents=True)
    records.write_bytes(b"")
    assert mounted.mount().returncode == 2
    assert mounted_type(mounted.path) is None
    records.unlink()
    assert mounted.mount().returncode == 0


# -- killed ----------------------------------------------------------------------------------------


def test_a_stale_mount_is_healed(mount: Mounted) -> None:
    mount.kill()
    with pytest.raises(OSError):
        os.listdir(mount.path)
    assert mounted_type(mount.path) == FUSE_TYPE
    done = mount.mount()
    assert done.returncode == 0, done.stderr
    assert os.listdir(mount.path)


def test_umount_of_a_stale_mount(mount: Mounted) -> None:
    mount.kill()
    done = mount.cli("umount", mount.path)
    assert done.returncode == 1
    assert "gone" in done.stdout + done.stderr
    assert mounted_type(mount.path) is None


@pytest.mark.parametrize("existed", [False, True])
def test_what_was_closed_survives_sigkill(
    mounting: Mounting, centre: Server, existed: bool
) -> None:
    if existed:
        (local_home(centre) / "f").write_bytes(b"old")
    mounted = mounting(options=["write_back=60"])
    assert mounted.mount().returncode == 0
    write(mounted, centre, "f", b"closed before the kill")
    write(mounted, centre, "empty", b"")
    mounted.kill()
    assert not (local_home(centre) / "empty").exists()
    assert mounted.mount().returncode == 0
    with mounted.watching():
        # Seen at once, whether or not it has landed.
        assert (home_of(mounted, centre) / "f").read_bytes() == b"closed before the kill"
    assert mounted.cli("sync", mounted.path).returncode == 0
    assert landed(centre, "f", b"closed before the kill")
    assert landed(centre, "empty", b"")


#: Writes half a file and keeps it open until it is killed.
_WRITER = textwrap.dedent(
    """
    import sys, time
    file = open(sys.argv[1], "wb", buffering=0)
    file.write(b"half of it")
    print("written", flush=True)
    time.sleep(60)
    """
)


def test_what_was_open_is_set_aside_at_sigkill(mount: Mounted, centre: Server) -> None:
    command = [sys.executable, "-c", _WRITER, str(home_of(mount, centre) / "f")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        mount.kill()
        writer.kill()
    assert mount.mount().returncode == 0
    found = json.loads(mount.cli("status", mount.path, "--json").stdout)
    lost = Path(found["state_dir"]) / "lost+found"
    assert wait_for(
        lambda: lost.is_dir() and [each.read_bytes() for each in lost.iterdir()] == [b"half of it"]
    )
    assert mount.cli("sync", mount.path).returncode == 0
    # It was never closed, and so never promised.
    assert not (local_home(centre) / "f").exists()
    errors = json.loads(mount.cli("status", mount.path, "--json").stdout)["errors"]
    assert any("lost+found" in line for line in errors)


def test_a_kill_during_the_store_leaves_one_good_file(mount: Mounted, centre: Server) -> None:
    data = os.urandom(200_000)
    (local_home(centre) / "f").write_bytes(b"old")
    centre.requests(reset=True)
    centre.faults([{"kind": "stall", "match": "ops/upload", "seconds": 2.0}])
    write(mount, centre, "f", data)
    assert wait_for(lambda: "ops/upload" in centre.requests())
    mount.kill()
    centre.faults([])
    assert mount.mount().returncode == 0
    assert landed(centre, "f", data)
    assert mount.cli("sync", mount.path).returncode == 0
    assert [name for name in os.listdir(local_home(centre)) if "conflict" in name] == []


# -- without credentials ---------------------------------------------------------------------------

REFUSED = [
    {"kind": "expire_tokens", "match": "ops/*"},
    {
        "kind": "status",
        "match": "token",
        "status": 401,
        "count": -1,
        "body": {"error": "unauthorized_client", "error_description": "Invalid client secret"},
    },
]


def test_a_secret_that_stops_working(mount: Mounted, centre: Server) -> None:
    (local_home(centre) / "theirs").write_bytes(b"x")
    home = home_of(mount, centre)
    with mount.watching():
        assert "theirs" in os.listdir(home)
    assert mount.cli("sync", mount.path).returncode == 0
    centre.requests(reset=True)
    centre.faults(REFUSED)
    write(mount, centre, "f", b"patience")
    # The mount stays, shows what it knows, and says what waits and why.
    assert wait_for(lambda: "secret" in why_it_waits(mount), 15)
    with mount.watching():
        assert "theirs" in os.listdir(home)
        assert (home / "f").read_bytes() == b"patience"
        with pytest.raises(PermissionError):
            (home / "theirs").read_bytes()
    assert is_running(mount.pid)
    asked = centre.requests(reset=True)
    assert len(asked) < 20
    centre.faults([])
    done = mount.cli("sync", mount.path, timeout=15)
    assert (done.returncode, done.stderr) == (0, "")
    assert landed(centre, "f", b"patience")


def test_a_token_file_that_is_renewed(mounting: Mounting, centre: Server, tmp_path: Path) -> None:
    def token() -> str:
        command = ["curl", "-sf", "-d", "grant_type=client_credentials"]
        command += ["-d", f"client_id={centre.info['client_id']}"]
        command += ["-d", f"client_secret={centre.info['client_secret']}"]
        done = subprocess.run(
            [*command, centre.info["token_url"]], capture_output=True, timeout=20, check=True
        )
        return str(json.loads(done.stdout)["access_token"])

    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(token())
    mounted = mounting(env={"FIRECREST_TOKEN_FILE": str(path)})
    for name in ("FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET", "AUTH_TOKEN_URL"):
        del mounted.env[name]
    assert mounted.mount().returncode == 0
    write(mounted, centre, "first", b"1")
    assert mounted.cli("sync", mounted.path).returncode == 0
    centre.faults([{"kind": "expire_tokens", "match": "ops/*"}])
    write(mounted, centre, "second", b"2")
    assert wait_for(lambda: "token" in why_it_waits(mounted), 15)
    path.write_text(token())
    done = mounted.cli("sync", mounted.path, timeout=15)
    assert (done.returncode, done.stderr) == (0, "")
    assert landed(centre, "second", b"2")


# -- without a server ------------------------------------------------------------------------------


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[EmulatorProcess]:
    """A server that may be stopped."""
    with EmulatorProcess(tmp_path / "failing", port=free_port(), steady=True) as server:
        yield server


def test_a_server_that_goes_and_comes_back(failing: EmulatorProcess, mounting: Mounting) -> None:
    mounted = mounting(failing, options=["op_timeout=4"])
    assert mounted.mount().returncode == 0
    system = failing.info["systems"][0]
    home = Path(f"{mounted.path}/{system['name']}{system['home']}")
    there = local_home(failing)
    (there / "read").write_bytes(b"content")
    (there / "unread").write_bytes(b"unread")
    (there / "d").mkdir()
    with mounted.watching(60):
        listed = sorted(os.listdir(home))
        assert (home / "read").read_bytes() == b"content"
        failing.stop()
        # What is known stays readable.
        assert sorted(os.listdir(home)) == listed
        assert (home / "read").read_bytes() == b"content"
        (home / "written").write_bytes(b"while it was away")
        assert (home / "written").read_bytes() == b"while it was away"
        # What is unknown is an error, and neither absent nor empty.
        for look in (lambda: os.listdir(home / "d"), lambda: os.stat(home / "d/f")):
            with pytest.raises(OSError) as refusal:
                look()
            assert not isinstance(refusal.value, FileNotFoundError)
        with pytest.raises(OSError):
            (home / "unread").read_bytes()
        assert (home / "written").read_bytes() == b"while it was away"
        assert "written" in mounted.cli("status", mounted.path).stdout
        failing.start_again()
        # By itself: nobody asks for it.
        assert wait_for(lambda: (there / "written").exists(), 40)
        assert wait_for(lambda: (there / "written").read_bytes() == b"while it was away")
        assert (home / "unread").read_bytes() == b"unread"
        assert os.listdir(home / "d") == []
    done = mounted.cli("umount", mounted.path)
    assert (done.returncode, done.stderr) == (0, "")
