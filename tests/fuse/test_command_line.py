"""Every command, from a shell's side: what it prints, how it ends, and each refusal readable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from firecrestfs.emulator import faults, knobs

from ..harness import (
    FUSE_TYPE,
    Mounted,
    Server,
    environment_for,
    free_port,
    is_readable,
    is_running,
    local_home,
    mounted_type,
    run_cli,
    wait_for,
)
from .conftest import Mounting

pytestmark = pytest.mark.fuse


def assert_refused(
    done: subprocess.CompletedProcess[str], *words: str, codes: tuple[int, ...] = (2,)
) -> None:
    """It ended with an error, and the first line of what it said has *words*."""
    assert done.returncode in codes, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines and lines[0].startswith("firecrestfs: "), done.stderr
    for word in words:
        assert word in lines[0], done.stderr


def home_of(mounted: Mounted, server: Server) -> Path:
    return Path(f"{mounted.path}/cluster{server.info['systems'][0]['home']}")


# -- mounts that can't be --------------------------------------------------------------------------


def test_a_mountpoint_that_is_missing(mounting: Mounting) -> None:
    mounted = mounting()
    mounted.path.rmdir()
    assert_refused(mounted.mount(), str(mounted.path), "mkdir")
    assert not mounted.path.exists()


def test_a_mountpoint_that_is_a_file(mounting: Mounting) -> None:
    mounted = mounting()
    mounted.path.rmdir()
    mounted.path.write_text("")
    done = mounted.mount()
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(mounted.path) in done.stderr


def test_a_mountpoint_that_is_not_empty(mounting: Mounting) -> None:
    mounted = mounting()
    (mounted.path / "mine").write_text("precious")
    assert_refused(mounted.mount(), "not empty")
    assert (mounted.path / "mine").read_text() == "precious"


def test_a_mountpoint_that_is_mounted(mount: Mounted) -> None:
    again = mount.cli("mount", mount.path)
    assert_refused(again, "already mounted", "umount")
    assert mounted_type(mount.path) == FUSE_TYPE
    assert os.listdir(mount.path)


def test_a_second_mount_with_the_same_state(mount: Mounted, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    done = mount.cli("mount", tmp_path / "second")
    assert_refused(done, "mounted already", str(mount.path), "--state-dir")
    assert mounted_type(tmp_path / "second") is None


def test_a_second_mount_with_a_state_of_its_own(
    mount: Mounted, centre: Server, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    dirs = ("--state-dir", tmp_path / "state2", "--cache-dir", tmp_path / "cache2")
    assert mount.cli("mount", second, *dirs).returncode == 0
    try:
        assert sorted(os.listdir(second)) == sorted(os.listdir(mount.path))
        done = mount.cli("status")
        assert_refused(done, "which mount", str(second))
        # Who is in one of them means that one.
        done = mount.cli("status", cwd=second)
        assert done.returncode == 0
        assert f"at {second} " in done.stdout
    finally:
        assert mount.cli("umount", second).returncode == 0
    assert mounted_type(second) is None


def test_an_unknown_host(mounting: Mounting) -> None:
    mounted = mounting(
        env={"FIRECREST_URL": "https://firecrest.invalid", "AUTH_TOKEN_URL": "https://a.invalid/t"}
    )
    done = mounted.mount()
    assert_refused(done, ".invalid")
    assert mounted_type(mounted.path) is None


def test_an_unknown_host_of_the_token_server(mounting: Mounting) -> None:
    mounted = mounting(env={"AUTH_TOKEN_URL": "https://auth.invalid/token"})
    assert_refused(mounted.mount(), "auth.invalid")


def test_a_server_that_does_not_listen(mounting: Mounting) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    mounted = mounting(env={"FIRECREST_URL": url})
    assert_refused(mounted.mount(), "127.0.0.1")
    assert mounted_type(mounted.path) is None


def test_a_server_that_is_none(mounting: Mounting, centre: Server) -> None:
    mounted = mounting(env={"FIRECREST_URL": centre.info["url"] + "/not/here"})
    assert_refused(mounted.mount())


def test_a_wrong_secret(mounting: Mounting) -> None:
    mounted = mounting(env={"FIRECREST_CLIENT_SECRET": "wrong-secret-value"})
    done = mounted.mount()
    assert_refused(done, "secret")
    assert "wrong-secret-value" not in done.stderr + mounted.log()
    assert mounted_type(mounted.path) is None


def test_no_credentials(mounting: Mounting) -> None:
    mounted = mounting()
    for name in ("FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET"):
        del mounted.env[name]
    assert_refused(mounted.mount(), "FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET")


def test_no_server(mounting: Mounting) -> None:
    mounted = mounting()
    del mounted.env["FIRECREST_URL"]
    assert_refused(mounted.mount(), "FIRECREST_URL", "demo")


def test_a_profile_that_is_unknown(mounting: Mounting) -> None:
    mounted = mounting()
    assert_refused(mounted.cli("mount", mounted.path, "--profile", "nope"), "nope")


def test_an_option_that_is_unknown(mounting: Mounting) -> None:
    mounted = mounting(options=["no_such_thing=1"])
    assert_refused(mounted.mount(), "no_such_thing")


def test_an_option_with_a_value_that_makes_no_sense(mounting: Mounting) -> None:
    assert_refused(mounting(options=["ttl=soon"]).mount(), "ttl", "soon")


def test_a_state_directory_in_the_mount(mounting: Mounting) -> None:
    mounted = mounting()
    done = mounted.cli("mount", mounted.path, "--state-dir", mounted.path / "state")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert mounted_type(mounted.path) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root may hide /dev/fuse")
def test_a_machine_without_fuse(mounting: Mounting, tmp_path: Path) -> None:
    mounted = mounting()
    dev = tmp_path / "dev"
    dev.mkdir()
    for name in ("null", "urandom"):
        (dev / name).touch()
    hide = (
        'for each in null urandom; do mount --bind /dev/$each "$0/$each" || exit 77; done; '
        'mount --rbind "$0" /dev || exit 77; exec "$@" < /dev/null'
    )
    command = [sys.executable, "-m", "firecrestfs", "mount", str(mounted.path)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", hide, str(dev), *command],
        env=mounted.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode in (1, 77) and "firecrestfs:" not in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr}")
    assert_refused(done, "/dev/fuse", "modprobe")


# -- what a mount tells ----------------------------------------------------------------------------


def test_mount_and_umount_are_silent_and_leave_nothing(mounting: Mounting) -> None:
    mounted = mounting()
    done = mounted.mount()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(os.listdir(mounted.path)) == ["cluster", "other"]
    done = mounted.cli("umount", mounted.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert mounted_type(mounted.path) is None
    assert not is_running(mounted.pid)
    assert os.listdir(mounted.path) == []


def test_mounting_in_front(mounting: Mounting) -> None:
    mounted = mounting()
    command = [sys.executable, "-m", "firecrestfs", "mount", "-f", str(mounted.path)]
    with subprocess.Popen(
        command, env=mounted.env, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        mounted.pid = process.pid
        try:
            assert wait_for(lambda: mounted_type(mounted.path) == FUSE_TYPE)
            assert wait_for(lambda: os.listdir(mounted.path) != [])
            # Ctrl-C
            process.send_signal(2)
            _, said = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                process.kill()
    assert process.returncode == 0
    assert "is mounted at" in said
    assert mounted_type(mounted.path) is None


def test_status_json(mount: Mounted, centre: Server) -> None:
    home = home_of(mount, centre)
    centre.faults([{"kind": "status", "match": "ops/upload", "status": 503, "count": -1}])
    with mount.watching():
        (home / "f").write_bytes(b"x")
    done = mount.cli("status", mount.path, "--json")
    found = json.loads(done.stdout)
    assert found["pid"] == mount.pid
    assert found["mountpoint"] == str(mount.path)
    assert found["url"] == centre.info["url"]
    assert found["systems"] == ["cluster", "other"]
    assert [row["path"] for row in found["pending"]] == [f"/cluster{home_in(centre)}/f"]
    assert Path(found["state_dir"]).is_dir()
    text = mount.cli("status", home)
    assert text.returncode == 0
    assert "pending: 1" in text.stdout
    centre.faults([])
    assert mount.cli("sync", mount.path).returncode == 0
    assert "everything is stored" in mount.cli("status", mount.path).stdout


def home_in(server: Server) -> str:
    return str(server.info["systems"][0]["home"])


def test_sync_tells_what_did_not_land(mount: Mounted, centre: Server) -> None:
    home = home_of(mount, centre)
    with mount.watching():
        (home / "good").write_bytes(b"x")
    done = mount.cli("sync", home)
    assert (done.returncode, done.stderr) == (0, "")
    assert (local_home(centre) / "good").read_bytes() == b"x"
    centre.set(disk_full=True)
    with mount.watching():
        (home / "bad").write_bytes(b"y" * 5000)
    done = mount.cli("sync", home / "bad")
    assert done.returncode == 1
    assert f"{home_in(centre)}/bad" in done.stderr
    assert mount.cli("sync", home / "good").returncode == 0
    centre.set(disk_full=False)
    assert mount.cli("sync", mount.path).returncode == 0
    assert (local_home(centre) / "bad").read_bytes() == b"y" * 5000


def test_refresh(mount: Mounted, centre: Server) -> None:
    home = home_of(mount, centre)
    with mount.watching():
        before = os.listdir(home)
        (local_home(centre) / "theirs").write_bytes(b"new")
        assert os.listdir(home) == before
        done = mount.cli("refresh", home)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "theirs" in os.listdir(home)


def test_commands_without_a_mount(centre: Server, tmp_path: Path) -> None:
    env = environment_for(centre.info, tmp_path)
    for command in ("status", "sync", "refresh", "umount"):
        done = run_cli([command, tmp_path], env)
        assert_refused(done, codes=(1, 2))


def test_systems(centre: Server, tmp_path: Path) -> None:
    env = environment_for(centre.info, tmp_path)
    done = run_cli(["systems"], env)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["cluster", "other"]
    rows = json.loads(run_cli(["systems", "--json"], env).stdout)
    assert [row["name"] for row in rows] == ["cluster", "other"]
    assert rows[0]["file_systems"]
    assert_refused(run_cli(["systems"], env | {"FIRECREST_CLIENT_SECRET": "no"}), "secret")


def test_doctor(centre: Server, tmp_path: Path) -> None:
    env = environment_for(centre.info, tmp_path)
    done = run_cli(["doctor"], env)
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout
    assert "cluster" in done.stdout
    done = run_cli(["doctor"], env | {"FIRECREST_CLIENT_SECRET": "wrong-secret-value"})
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "wrong-secret-value" not in done.stdout + done.stderr
    done = run_cli(["doctor"], env | {"FIRECREST_URL": f"http://127.0.0.1:{free_port()}"})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    done = run_cli(["doctor"], environment_for({}, tmp_path))
    assert done.returncode == 1
    assert "FIRECREST_URL" in done.stdout


def test_version(tmp_path: Path) -> None:
    done = run_cli(["version"], environment_for({}, tmp_path))
    assert done.returncode == 0
    assert done.stdout.startswith("firecrestfs ")
    assert "FUSE" in done.stdout


def test_every_command_has_help_with_an_example(tmp_path: Path) -> None:
    env = environment_for({}, tmp_path)
    listed = run_cli(["--help"], env).stdout.partition("Commands:")[2].split("\n")
    names = [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "]
    assert {"mount", "umount", "status", "sync", "doctor", "serve", "demo"} <= set(names)
    for name in names:
        done = run_cli([name, "--help"], env)
        assert done.returncode == 0
        assert "Example:" in done.stdout, name


def test_wrong_usage(tmp_path: Path) -> None:
    env = environment_for({}, tmp_path)
    for arguments in (["nonsense"], ["mount"], ["status", "--nonsense"]):
        done = run_cli(arguments, env)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


# -- serve -----------------------------------------------------------------------------------------


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert is_readable(process.stdout, 30), "it said nothing"
    return process.stdout.readline()


def test_serve_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "firecrestfs", "serve", "--json"]
    command += ["--root", str(tmp_path / "root"), "--set", "max_ops_file_size=1000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            found = json.loads(first_line(process))
        finally:
            process.terminate()
        assert process.wait(20) == 0
    for name in ("url", "api", "token_url", "client_id", "client_secret", "pid", "systems"):
        assert found[name]
    assert found["api"] == "v2"
    assert found["pid"] == process.pid
    for name in ("name", "home", "local_home", "scratch", "local_scratch"):
        assert found["systems"][0][name]
    assert found["systems"][0]["local_home"].startswith(str(tmp_path / "root"))


def test_serve_lists_its_settings(tmp_path: Path) -> None:
    env = environment_for({}, tmp_path)
    done = run_cli(["serve", "--set", "help"], env)
    assert done.returncode == 0
    names = {line.split()[0] for line in done.stdout.splitlines() if line}
    assert {"latency", "max_ops_file_size", "poll_interval", "token_ttl"} <= names
    for wrong in ("nonsense=1", "latency=soon", "latency"):
        assert_refused(run_cli(["serve", "--set", wrong], env), wrong.partition("=")[0])


def test_the_help_of_serve_lists_settings_and_faults(tmp_path: Path) -> None:
    done = run_cli(["serve", "--help"], environment_for({}, tmp_path))
    assert done.returncode == 0
    words = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert words >= {row.name for row in knobs.table()}
    assert words >= set(faults.KINDS)
    for key in ("match", "count", "probability", "after", "every", "begin", "end"):
        assert f"{key}=" in done.stdout


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_serve_with_faults_from_its_start(tmp_path: Path, api: str) -> None:
    env = environment_for({}, tmp_path)
    command = [sys.executable, "-m", "firecrestfs", "serve", "--json", "--api", api]
    rules = (
        "status,match=_emulator/state,status=418,headers.X-Tea=pot",
        '{"kind": "drop", "count": 0}',
    )
    for rule in rules:
        command += ["--fault", rule]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = json.loads(first_line(process))["url"]
            with urllib.request.urlopen(f"{url}/_emulator/faults", timeout=20) as answer:
                found = json.load(answer)
        finally:
            process.terminate()
        assert process.wait(20) == 0
    assert [(rule["kind"], rule["count"]) for rule in found] == [("status", 1), ("drop", 0)]
    assert found[0]["headers"] == {"X-Tea": "pot"}


@pytest.mark.parametrize(
    "wrong", ["nonsense", "drop,count", "drop,count=often", "drop,who=me", "{"]
)
def test_serve_with_a_fault_that_makes_no_sense(tmp_path: Path, wrong: str) -> None:
    done = run_cli(["serve", "--fault", wrong], environment_for({}, tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_demo(tmp_path: Path) -> None:
    where = tmp_path / "hpc"
    env = environment_for({}, tmp_path) | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "firecrestfs", "demo", str(where)]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            # Both lines may have come at once: then there is nothing left to wait for.
            assert str(where) in first_line(process) + process.stdout.readline()
            assert mounted_type(where) == FUSE_TYPE
            system = sorted(os.listdir(where))[0]
            assert os.listdir(where / system / "HOME/")
            # From another terminal, which knows nothing of the demo's own state directory.
            told = run_cli(["status", where], environment_for({}, tmp_path / "other"))
            assert "everything is stored" in told.stdout
        finally:
            process.send_signal(2)
        assert process.wait(40) == 0
    assert mounted_type(where) is None
    assert not where.exists()
    assert [name for name in os.listdir(tmp_path) if name.startswith("firecrestfs-demo")] == []
