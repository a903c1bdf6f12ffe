"""Before a mount begins: what doctor finds, what mount(8) passes, who has the state already."""

from __future__ import annotations

import email.utils
import errno
import fcntl
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from firecrestfs import daemon, doctor
from firecrestfs.cli.mounting import _mount_options
from firecrestfs.config import _ENVIRONMENT, load
from firecrestfs.emulator import Emulator

# -- doctor --------------------------------------------------------------------------------------

SERVER = "server reachable, token accepted"


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulator: Emulator
) -> pytest.MonkeyPatch:
    """The environment of somebody who has set up everything right; no other file is read."""
    for name in (*_ENVIRONMENT.values(), "FIRECREST_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("FIRECREST_URL", emulator.url)
    monkeypatch.setenv("FIRECREST_CLIENT_ID", emulator.client_id)
    monkeypatch.setenv("FIRECREST_CLIENT_SECRET", emulator.client_secret)
    monkeypatch.setenv("AUTH_TOKEN_URL", emulator.token_url)
    return monkeypatch


def checks(**overrides: Any) -> dict[str, doctor.Check]:
    """Run doctor; whatever is wrong, it takes no longer than a person waits."""
    before = time.monotonic()
    found = {each.name: each for each in doctor.run(overrides)}
    assert time.monotonic() - before < 15
    assert all(each.text for each in found.values())
    return found


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_all_is_well(environment: pytest.MonkeyPatch) -> None:
    found = checks()
    for name in ("configuration", SERVER, "clock"):
        assert found[name].ok, found[name]
    assert "cluster" in found[SERVER].text


def test_without_a_configuration_the_server_is_not_asked(
    environment: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    environment.delenv("FIRECREST_URL")
    emulator.requests.clear()
    found = checks()
    assert not found["configuration"].ok
    assert "FIRECREST_URL" in found["configuration"].text
    assert SERVER not in found
    assert len(emulator.requests) == 0
    assert [name for name in found if name.startswith("FUSE")]


@pytest.mark.parametrize(
    "missing", ["FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET", "AUTH_TOKEN_URL"]
)
def test_what_is_missing_is_named(environment: pytest.MonkeyPatch, missing: str) -> None:
    environment.delenv(missing)
    found = checks()
    assert not found["configuration"].ok
    assert missing in found["configuration"].text
    assert SERVER not in found


def test_a_profile_that_is_not_there(environment: pytest.MonkeyPatch) -> None:
    found = checks(profile="cscs")
    assert not found["configuration"].ok
    assert "cscs" in found["configuration"].text


def test_a_wrong_secret_is_told_and_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FIRECREST_CLIENT_SECRET", "wr0ng-s3cret")
    found = checks()
    assert found["configuration"].ok
    assert not found[SERVER].ok
    assert "FIRECREST_CLIENT_SECRET" in found[SERVER].text or "secret" in found[SERVER].text
    assert not any("wr0ng-s3cret" in each.text for each in found.values())


def test_a_token_that_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FIRECREST_TOKEN", "not.a.token")
    found = checks()
    assert not found[SERVER].ok
    assert "token" in found[SERVER].text
    assert "not.a.token" not in found[SERVER].text


@pytest.mark.parametrize("which", ["FIRECREST_URL", "AUTH_TOKEN_URL"])
def test_a_server_that_can_not_be_reached_is_named(
    environment: pytest.MonkeyPatch, which: str
) -> None:
    port = unused_port()
    environment.setenv(which, f"http://127.0.0.1:{port}/")
    found = checks()
    assert found["configuration"].ok
    assert not found[SERVER].ok
    server = f"127.0.0.1:{port}" if which == "FIRECREST_URL" else "token server 127.0.0.1"
    assert server in found[SERVER].text
    assert "check the network" in found[SERVER].text


@pytest.mark.parametrize("url", ["ftp://example.org", "example.org", "http://example.org"])
def test_an_address_that_makes_no_sense_is_a_check_that_fails(
    environment: pytest.MonkeyPatch, url: str
) -> None:
    found = checks(url=url)
    failed = [each for each in found.values() if not each.ok and not each.name.startswith("FUSE")]
    assert failed
    assert SERVER not in found or not found[SERVER].ok


def test_a_server_with_a_problem_is_told(
    environment: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    emulator.faults.add("status", "status/*", status=500, count=-1)
    found = checks()
    assert not found[SERVER].ok


@pytest.mark.parametrize(("off", "ok"), [(0, True), (-15, True), (120, False), (-3600, False)])
def test_a_clock_that_is_off_is_told_with_its_remedy(off: float, ok: bool) -> None:
    check = doctor._check(
        "clock", lambda: doctor._clock(email.utils.formatdate(time.time() - off, usegmt=True))
    )
    assert check.ok is ok
    if not ok:
        assert ("ahead" if off > 0 else "behind") in check.text
        assert "time synchronisation" in check.text


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_date_that_makes_no_sense_breaks_nothing(date: str) -> None:
    assert doctor._check("clock", lambda: doctor._clock(date)).text


def test_versions_are_told_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise OSError(errno.ENOSYS, "no FUSE library could be loaded")

    monkeypatch.setattr(doctor, "load_binding", missing)
    lines = doctor.versions()
    assert lines[0].startswith("python ")
    assert lines[-1] == "FUSE: no FUSE library could be loaded"


# -- options of mount(8) -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), {}),
        (("",), {}),
        (("ttl=60",), {"ttl": "60"}),
        (("ttl=60,negative-ttl=0", "allow_other"),
         {"ttl": "60", "negative_ttl": "0", "allow_other": True}),
        (("rw,defaults,noauto,user,nosuid,nodev,noexec,_netdev,nofail",), {}),
        (("x-systemd.automount,x-gvfs-show,ttl=1",), {"ttl": "1"}),
        ((" ttl=60 , allow-other ,",), {"ttl": "60", "allow_other": True}),
        (("token_command=pass show a=b",), {"token_command": "pass show a=b"}),
        (("url=",), {"url": ""}),
        (("ttl=1", "ttl=2"), {"ttl": "2"}),
        (("ro",), {"ro": True}),
    ],
)  # fmt: skip
def test_options(options: tuple[str, ...], found: dict[str, Any]) -> None:
    assert _mount_options(options) == found


def test_an_option_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """`ro` above all: a mount that isn't read-only must not look as if it were."""
    with pytest.raises(OSError, match="'ro'"):
        load(_mount_options(("ro",)), environment={}, config_file=tmp_path / "none")


# -- one process for one state -------------------------------------------------------------------


def test_a_second_mount_is_told_who_has_the_state(tmp_path: Path) -> None:
    first = daemon._take_lock(tmp_path, "/mnt/it's\udcff here")
    with pytest.raises(OSError, match="--state-dir") as info:
        daemon._take_lock(tmp_path, "/mnt/second")
    assert info.value.errno == errno.EBUSY
    assert info.value.filename == "/mnt/second"
    assert f"process {os.getpid()}" in str(info.value.strerror)
    assert "/mnt/it's" in str(info.value.strerror)
    assert "--cache-dir" in str(info.value.strerror)
    os.close(first)


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    """What a dead process wrote into it doesn't count, however long it was."""
    os.close(daemon._take_lock(tmp_path, "/mnt/" + "long" * 100))
    second = daemon._take_lock(tmp_path, "/mnt/b")
    assert (tmp_path / "lock").read_text() == f"process {os.getpid()} at /mnt/b"
    os.close(second)


def test_a_holder_that_is_dying_is_waited_for(tmp_path: Path) -> None:
    """After kill -9 the process counts as dead while the last of its threads holds the lock."""
    first = daemon._take_lock(tmp_path, "/mnt/a")
    with subprocess.Popen(["true"]) as dead:
        pass
    (tmp_path / "lock").write_text(f"process {dead.pid} at /mnt/a")
    timer = threading.Timer(0.3, os.close, (first,))
    timer.start()
    os.close(daemon._take_lock(tmp_path, "/mnt/a"))
    timer.join()


def test_the_lock_is_not_handed_on_to_programs(tmp_path: Path) -> None:
    """A token command that goes on running must not keep the state locked."""
    fd = daemon._take_lock(tmp_path, "/mnt/a")
    assert not os.get_inheritable(fd)
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert (tmp_path / "lock").stat().st_mode & 0o077 == 0
    os.close(fd)


def test_a_refused_second_leaves_no_descriptor(tmp_path: Path) -> None:
    first = daemon._take_lock(tmp_path, "/mnt/a")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        daemon._take_lock(tmp_path, "/mnt/b")
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(first)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://firecrest.example.org/hpc/v2", "firecrest.example.org"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://user@example.org/", "example.org"),
        ("https://a,b.example.org/", "ab.example.org"),
        ("", "firecrest"),
    ],
)
def test_the_name_that_df_shows(url: str, name: str) -> None:
    assert daemon._fsname(url) == name
