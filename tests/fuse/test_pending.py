"""What could not be stored: looked at, tried again, given up, copied out; mounted or not."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ..harness import Mounted, Server, is_running, local_home, mounted_type, wait_for
from .conftest import Mounting

pytestmark = pytest.mark.fuse

#: The cluster has no room: what is stored there is parked.
NO_ROOM = [
    {
        "kind": "status",
        "match": "ops/upload",
        "status": 500,
        "count": -1,
        "body": {
            "errorType": "error",
            "message": "cp: error writing 'f': Disk quota exceeded",
            "causedBy": None,
            "data": None,
        },
    }
]


def home_in(server: Server) -> str:
    return f"/cluster{server.info['systems'][0]['home']}"


def home_of(mounted: Mounted, server: Server) -> Path:
    return Path(f"{mounted.path}{home_in(server)}")


def status(mounted: Mounted, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mounted.cli("status", "--json", *options).stdout)
    return found


def states(mounted: Mounted) -> list[str]:
    return [row["state"] for row in status(mounted)["pending"]]


def park(mounted: Mounted, server: Server, *names: str) -> None:
    """Write files that the cluster has no room for."""
    server.faults(NO_ROOM)
    with mounted.watching():
        files = [(home_of(mounted, server) / name).open("wb") for name in names]
        for file in files:
            with file:
                file.write(f"the bytes of {Path(file.name).name}".encode())
    assert wait_for(lambda: states(mounted) == ["failed"] * len(names), 20)


@pytest.fixture
def patient(mounting: Mounting) -> Mounted:
    """A mount that stores nothing by itself for a while."""
    mounted = mounting(options=["write_back=600", "drain_timeout=5"])
    assert mounted.mount().returncode == 0
    return mounted


def ended(mounted: Mounted) -> bool:
    return wait_for(lambda: not is_running(mounted.pid), 20) and mounted_type(mounted.path) is None


# -- mounted ---------------------------------------------------------------------------------------


def test_status_says_what_to_do_about_what_failed(mount: Mounted, centre: Server) -> None:
    park(mount, centre, "f")
    text = mount.cli("status").stdout
    for word in ("failed", f"{home_in(centre)}/f", "retry", "discard", "export"):
        assert word in text


def test_retry(mount: Mounted, centre: Server) -> None:
    park(mount, centre, "f", "g")
    done = mount.cli("retry", f"cluster:{home_in(centre).removeprefix('/cluster')}/f")
    assert done.returncode == 1
    assert f"not stored: {home_in(centre)}/f" in done.stderr
    assert "/g" not in done.stderr
    centre.faults([])
    done = mount.cli("retry", home_of(mount, centre))
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("f", "g"):
        assert (local_home(centre) / name).read_bytes() == f"the bytes of {name}".encode()
    assert status(mount)["pending"] == []


def test_discard_gives_up_a_new_file(mount: Mounted, centre: Server) -> None:
    park(mount, centre, "f", "g")
    home = home_of(mount, centre)
    # By whatever name the user knows it.
    done = mount.cli("discard", mount.path / "cluster/HOME/f", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    with mount.watching():
        assert wait_for(lambda: not (home / "f").exists(), 5)
        assert (home / "g").read_bytes() == b"the bytes of g"
        # Its bytes can be had for some days, in the mount too.
        [day] = (mount.path / ".firecrestfs/lost+found").iterdir()
        assert day.name == time.strftime("discarded-%Y-%m-%d")
        [lost] = day.iterdir()
        assert lost.read_bytes() == b"the bytes of f"
        assert lost.name.startswith("f-")
        for change in (lost.unlink, lambda: lost.write_bytes(b""), lambda: (day / "x").touch()):
            with pytest.raises(OSError):
                change()
    centre.faults([])
    assert mount.cli("retry").returncode == 0
    assert not (local_home(centre) / "f").exists()
    assert (local_home(centre) / "g").exists()


def test_discard_goes_back_to_what_the_cluster_has(mount: Mounted, centre: Server) -> None:
    (local_home(centre) / "f").write_bytes(b"theirs")
    home = home_of(mount, centre)
    with mount.watching():
        assert (home / "f").read_bytes() == b"theirs"
    park(mount, centre, "f")
    assert mount.cli("discard", f"cluster:{home_in(centre)[8:]}/f", "--yes").returncode == 0
    with mount.watching():
        assert wait_for(lambda: (home / "f").stat().st_size == 6, 5)
        assert (home / "f").read_bytes() == b"theirs"
    assert status(mount)["pending"] == []
    assert (local_home(centre) / "f").read_bytes() == b"theirs"


def test_discard_asks_and_names_what_it_is_about(mount: Mounted, centre: Server) -> None:
    park(mount, centre, "f")
    done = mount.cli("discard", home_of(mount, centre))
    assert done.returncode == 1
    assert f"{home_in(centre)}/f" in done.stdout
    assert len(status(mount)["pending"]) == 1
    for nothing in ("discard",), ("discard", home_of(mount, centre) / "other", "--yes"):
        assert mount.cli(*nothing).returncode == 2


def test_discard_leaves_what_is_being_written(mount: Mounted, centre: Server) -> None:
    park(mount, centre, "f")
    with mount.watching(), (home_of(mount, centre) / "f").open("ab") as file:
        done = mount.cli("discard", home_of(mount, centre) / "f", "--yes")
        assert done.returncode == 2
        assert "a program has it open for writing" in done.stderr
        file.write(b" and more")
    centre.faults([])
    assert mount.cli("sync").returncode == 0
    assert (local_home(centre) / "f").read_bytes() == b"the bytes of f and more"


def test_export_copies_and_overwrites_nothing(
    mount: Mounted, centre: Server, tmp_path: Path
) -> None:
    park(mount, centre, "f", "g")
    assert mount.cli("discard", home_of(mount, centre) / "g", "--yes").returncode == 0
    to = tmp_path / "rescued"
    for _ in range(2):
        done = mount.cli("export", "--to", to)
        assert (done.returncode, done.stderr) == (0, "")
    there = Path(f"{to}{home_in(centre)}")
    assert {each.name for each in there.iterdir()} == {"f", "f.1"}
    assert {each.read_bytes() for each in there.iterdir()} == {b"the bytes of f"}
    [lost, again] = sorted(each for each in (to / "lost+found").rglob("*") if each.is_file())
    assert lost.read_bytes() == again.read_bytes() == b"the bytes of g"
    assert len(status(mount)["pending"]) == 1
    only = tmp_path / "only"
    assert mount.cli("export", home_of(mount, centre) / "g", "--to", only).returncode == 0
    assert not only.exists()


def test_export_of_a_file_whose_directory_is_gone_from_the_cluster(
    mount: Mounted, centre: Server, tmp_path: Path
) -> None:
    (local_home(centre) / "d").mkdir()
    with mount.watching():
        (home_of(mount, centre) / "d").stat()
    park(mount, centre, "d/f")
    (local_home(centre) / "d").rmdir()
    assert mount.cli("refresh", mount.path).returncode == 0
    with mount.watching():
        assert not (home_of(mount, centre) / "d").exists()
    done = mount.cli("export", "--to", tmp_path / "rescued")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(f"{tmp_path}/rescued{home_in(centre)}/d/f").read_bytes() == b"the bytes of f"


# -- not mounted -----------------------------------------------------------------------------------


def leave(mounted: Mounted, server: Server, *names: str) -> None:
    """Write files, and unmount before they are stored."""
    for name in names:
        with mounted.watching():
            (home_of(mounted, server) / name).write_bytes(f"the bytes of {name}".encode())
    done = mounted.cli("umount", mounted.path, "--now")
    assert done.returncode == 1
    for name in names:
        assert f"not stored: {home_in(server)}/{name}" in done.stderr
    assert ended(mounted)


@pytest.mark.parametrize("how", ["umount --now", "SIGKILL"])
def test_status_without_a_mount(patient: Mounted, centre: Server, how: str) -> None:
    if how == "SIGKILL":
        with patient.watching():
            (home_of(patient, centre) / "f").write_bytes(b"the bytes of f")
        patient.kill()
    else:
        leave(patient, centre, "f")
    for where in ((), (patient.path,)):
        done = patient.cli("status", *where)
        assert done.returncode == 0, done.stderr
        assert "not mounted; 1 file pending since" in done.stdout
        assert f"run firecrestfs mount {patient.path}" in done.stdout
        assert f"{home_in(centre)}/f" in done.stdout
    [found] = status(patient)["servers"]
    assert [row["path"] for row in found["pending"]] == [f"{home_in(centre)}/f"]
    assert found["url"] == centre.info["url"]
    # Looking changes nothing.
    assert patient.mount().returncode == 0
    assert patient.cli("sync").returncode == 0
    assert (local_home(centre) / "f").read_bytes() == b"the bytes of f"
    assert patient.cli("umount").returncode == 0
    assert "nothing waits" in patient.cli("status").stdout


def test_discard_and_export_without_a_mount(
    patient: Mounted, centre: Server, tmp_path: Path
) -> None:
    leave(patient, centre, "f", "g")
    to = tmp_path / "rescued"
    assert patient.cli("export", "--to", to, patient.path).returncode == 0
    there = Path(f"{to}{home_in(centre)}")
    assert (there / "f").read_bytes() == b"the bytes of f"
    assert (there / "g").read_bytes() == b"the bytes of g"
    done = patient.cli("discard", f"cluster:{home_in(centre)[8:]}/f", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert patient.cli("export", "--to", to).returncode == 0
    assert [each.read_bytes() for each in (to / "lost+found").rglob("*") if each.is_file()] == [
        b"the bytes of f"
    ]
    assert patient.cli("retry").returncode == 2
    assert patient.mount().returncode == 0
    assert patient.cli("sync").returncode == 0
    assert not (local_home(centre) / "f").exists()
    assert (local_home(centre) / "g").read_bytes() == b"the bytes of g"


def test_commands_without_a_mount_leave_a_running_one_alone(
    patient: Mounted, centre: Server
) -> None:
    state = status(patient)["state_dir"]
    with patient.watching():
        (home_of(patient, centre) / "f").write_bytes(b"x")
    for command in (["discard", "--yes", patient.path], ["export", "--to", "/nowhere"]):
        done = patient.cli(*command, "--state-dir", state)
        assert done.returncode == 2
        assert str(patient.pid) in done.stderr
        assert str(patient.path) in done.stderr
    assert len(status(patient)["pending"]) == 1


def test_what_an_earlier_mount_left_can_be_had_while_the_server_is_away(
    patient: Mounted, centre: Server, tmp_path: Path
) -> None:
    """The mount can't show it before it knows who we are on the cluster; its bytes are here."""
    leave(patient, centre, "f")
    centre.faults([{"kind": "status", "status": 503, "body": "<html>", "count": -1}])
    assert patient.mount().returncode == 0
    done = patient.cli("export", "--to", tmp_path / "rescued")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(f"{tmp_path}/rescued{home_in(centre)}/f").read_bytes() == b"the bytes of f"
    done = patient.cli("discard", patient.path, "--yes")
    assert done.returncode == 2
    assert "umount --now" in done.stderr
    for order in ("retry", "sync"):
        done = patient.cli(order)
        assert done.returncode == 1
        assert "not stored: /cluster: " in done.stderr
    centre.faults([])
    assert patient.cli("sync").returncode == 0
    assert (local_home(centre) / "f").read_bytes() == b"the bytes of f"


def test_what_was_discarded_goes_after_seven_days(patient: Mounted, centre: Server) -> None:
    leave(patient, centre, "f")
    assert patient.cli("discard", patient.path, "--yes").returncode == 0
    [lost] = status(patient)["servers"][0]["lost_found"]
    day = Path(lost).parent
    # One mount alone may have a clock that is wrong.
    for days, found_old, there in ((6, 0, True), (9, 0, True), (9, 2, False)):
        moment = time.time()
        older = time.strftime("discarded-%Y-%m-%d", time.localtime(moment - days * 86400))
        day = day.rename(day.with_name(older))
        if found_old:
            noted = {day.name: moment - found_old * 86400}
            (day.parent.parent / "expiring.json").write_text(json.dumps(noted))
        kept = day.parent / "something-set-aside"
        kept.write_bytes(b"x")
        assert patient.mount().returncode == 0
        assert patient.cli("umount", patient.path).returncode == 0
        assert day.exists() == there
        assert kept.exists()


# -- the end of a mount ----------------------------------------------------------------------------


def test_umount_tells_how_a_mount_ended_by_itself(patient: Mounted, centre: Server) -> None:
    with patient.watching():
        (home_of(patient, centre) / "f").write_bytes(b"x")
    centre.faults(NO_ROOM)
    os.kill(patient.pid, 15)
    assert ended(patient)
    done = patient.cli("umount", patient.path)
    assert done.returncode == 1
    assert "not mounted any more" in done.stderr
    assert f"not stored: {home_in(centre)}/f" in done.stderr


def test_a_second_signal_ends_the_wait(patient: Mounted, centre: Server) -> None:
    """And what was waited for is stored after the next mount."""
    centre.faults([{"kind": "status", "match": "ops/upload", "status": 503, "count": -1}])
    with patient.watching():
        (home_of(patient, centre) / "f").write_bytes(b"x")
    os.kill(patient.pid, 15)
    assert wait_for(lambda: "ops/upload" in centre.requests(), 10)
    os.kill(patient.pid, 15)
    assert ended(patient)
    centre.faults([])
    assert patient.mount().returncode == 0
    assert patient.cli("sync").returncode == 0
    assert (local_home(centre) / "f").read_bytes() == b"x"


def test_sigterm_waits_up_to_a_limit(mounting: Mounting, centre: Server) -> None:
    mounted = mounting(options=["drain_timeout=2"])
    assert mounted.mount().returncode == 0
    centre.faults([{"kind": "status", "match": "ops/upload", "status": 503, "count": -1}])
    with mounted.watching():
        (home_of(mounted, centre) / "f").write_bytes(b"x")
    os.kill(mounted.pid, 15)
    assert ended(mounted)
    assert f"not stored: {home_in(centre)}/f" in mounted.cli("umount", mounted.path).stderr
    assert f"{home_in(centre)}/f" in mounted.cli("status").stdout


def test_umount_shows_what_it_waits_for(mount: Mounted, centre: Server) -> None:
    centre.faults([{"kind": "status", "match": "ops/upload", "status": 503, "count": -1}])
    with mount.watching():
        (home_of(mount, centre) / "f").write_bytes(b"x")
    done = mount.cli("umount", mount.path, "--timeout", "4")
    assert done.returncode == 1
    assert "1 change to store" in done.stderr
    assert ended(mount)


# -- space -----------------------------------------------------------------------------------------


def test_no_room_on_this_machine_is_told_before_bytes_are_taken(
    mounting: Mounting, centre: Server
) -> None:
    mounted = mounting(options=["cache_size=1M", "write_back=600", "drain_timeout=5"])
    assert mounted.mount().returncode == 0
    home, there = home_of(mounted, centre), local_home(centre)
    (there / "clean").write_bytes(b"c" * (700 << 10))
    with mounted.watching():
        assert len((home / "clean").read_bytes()) == 700 << 10
        # The clean copy makes way.
        (home / "first").write_bytes(b"1" * (600 << 10))
        with pytest.raises(OSError) as refusal, (home / "second").open("wb", buffering=0) as file:
            for _ in range(10):
                file.write(b"2" * (100 << 10))
        assert refusal.value.errno == 28
        assert (home / "first").read_bytes() == b"1" * (600 << 10)
        assert "cache_size" in (mounted.path / ".firecrestfs/errors").read_text()
    found = status(mounted)
    held = sum(
        each.stat().st_size
        for top in (found["state_dir"], found["cache_dir"])
        for each in Path(top, "files").iterdir()
    )
    assert held <= 1 << 20
    assert mounted.cli("sync").returncode == 0
    with mounted.watching():
        # What has landed makes way as well.
        (home / "third").write_bytes(b"3" * (900 << 10))
    assert mounted.cli("sync").returncode == 0
    assert (there / "third").stat().st_size == 900 << 10


# -- credentials -----------------------------------------------------------------------------------


def test_login_takes_a_new_secret_to_the_mount(mount: Mounted, centre: Server) -> None:
    refused = {
        "kind": "status",
        "match": "token",
        "status": 401,
        "count": -1,
        "body": {"error": "unauthorized_client", "error_description": "Invalid client secret"},
    }
    with mount.watching():
        assert os.listdir(home_of(mount, centre)) is not None
    centre.faults([{"kind": "expire_tokens", "match": "ops/*"}, refused])
    with mount.watching():
        (home_of(mount, centre) / "f").write_bytes(b"patience")
    assert wait_for(lambda: status(mount)["credentials"] is not None, 20)
    text = mount.cli("status").stdout
    assert "no access since" in text
    assert "firecrestfs login" in text
    # Nothing is parked: it waits for the user.
    assert set(states(mount)) == {"waiting"}
    done = mount.cli("login")
    assert done.returncode == 1
    assert "secret" in done.stderr
    centre.faults([])
    done = mount.cli("login")
    assert (done.returncode, done.stderr) == (0, "")
    assert wait_for(lambda: (local_home(centre) / "f").exists(), 20)
    assert wait_for(lambda: status(mount)["credentials"] is None)


def test_login_without_a_mount_checks_the_credentials(mounting: Mounting, centre: Server) -> None:
    mounted = mounting()
    done = mounted.cli("login")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cluster" in done.stdout
    mounted.env["FIRECREST_CLIENT_SECRET"] = "wrong"
    done = mounted.cli("login")
    assert done.returncode == 2
    assert "secret" in done.stderr
