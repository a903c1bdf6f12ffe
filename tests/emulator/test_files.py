"""Files of the emulated cluster: whose they are, what the kernel refuses, where paths lead."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any

from firecrestfs.emulator import Emulator, FileSystem

from .conftest import Client


def message(response: Any) -> str:
    return str(response.json()["message"])


def test_files_made_on_this_machine_are_the_users(client: Client, home: Path) -> None:
    (home / "f").write_text("local")
    entry = client.get("ls", "/home/demo/f").json()["output"][0]
    assert (entry["user"], entry["group"]) == ("demo", "staff")
    numbers = client.get("stat", "/home/demo/f").json()["output"]
    assert (numbers["uid"], numbers["gid"]) == (1000, 1000)
    assert client.upload("/home/demo", "f", b"remote").status_code == 204
    assert (home / "f").read_text() == "remote"


def test_what_is_above_the_home_is_roots(client: Client) -> None:
    assert client.get("stat", "/home").json()["output"]["uid"] == 0
    assert client.ops("DELETE", "rm", params={"path": "/home/demo"}).status_code == 403
    assert client.ops("POST", "mkdir", json={"path": "/home/other"}).status_code == 403
    assert client.upload("/home", "f", b"x").status_code == 403


def test_modes_hold_although_the_server_may_be_root(client: Client, home: Path) -> None:
    closed, locked, secret = home / "closed", home / "locked", home / "secret"
    closed.mkdir()
    (closed / "f").touch()
    locked.mkdir()
    secret.write_text("x")
    for path, mode in ((closed, 0o000), (locked, 0o555), (secret, 0o000)):
        path.chmod(mode)
    assert client.get("ls", "/home/demo/closed").status_code == 403
    assert client.get("stat", "/home/demo/closed/f").status_code == 403
    assert client.get("download", "/home/demo/secret").status_code == 403
    assert client.upload("/home/demo/locked", "f", b"x").status_code == 403
    assert client.upload("/home/demo", "secret", b"x").status_code == 403
    assert client.ops("POST", "mkdir", json={"path": "/home/demo/locked/d"}).status_code == 403


def test_new_files_get_the_umask_of_the_login_shell(
    emulator: Emulator, client: Client, home: Path
) -> None:
    emulator.knobs.put("umask", "027")
    client.upload("/home/demo", "f", b"x")
    client.ops("POST", "mkdir", json={"path": "/home/demo/d"})
    assert (home / "f").stat().st_mode & 0o777 == 0o640
    assert (home / "d").stat().st_mode & 0o777 == 0o750


def test_second_group_can_be_given_and_others_not(client: Client, home: Path) -> None:
    (home / "f").touch()
    body = {"path": "/home/demo/f", "group": "proj1"}
    response = client.ops("PUT", "chown", json=body)
    if os.geteuid() == 0:
        assert response.json()["output"]["group"] == "proj1"
        assert client.get("stat", "/home/demo/f").json()["output"]["gid"] == 2044
    assert client.ops("PUT", "chown", json={**body, "group": "root"}).status_code == 403


def test_absolute_links_stay_inside_the_cluster(client: Client, home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "f").write_text("inside")
    (home / "abs").symlink_to("/home/demo/data/f")
    (home / "up").symlink_to("../../../../../home/demo/data")
    (home / "host").symlink_to("/etc/hostname")
    (home / "cross").symlink_to("/scratch/demo")
    assert client.get("download", "/home/demo/abs").content == b"inside"
    assert client.get("download", "/home/demo/up/f").content == b"inside"
    assert client.get("download", "/home/demo/host").content == b"cluster\n"  # its own
    assert client.upload("/home/demo/cross", "f", b"x").status_code == 204
    assert client.names("/scratch/demo") == ["f"]


def test_dot_dot_cannot_leave_the_tree(client: Client, home: Path) -> None:
    (home / "out").symlink_to("/".join([".."] * 20) + "/etc/passwd")
    assert client.get("download", "/home/demo/out").status_code == 404
    outside = "/home/demo/../../../../etc/passwd"
    assert client.get("download", outside).status_code == 400


def test_links_that_lead_nowhere(client: Client, home: Path) -> None:
    (home / "loop").symlink_to("loop")
    (home / "file").touch()
    assert "Too many levels" in message(client.get("download", "/home/demo/loop"))
    assert "Not a directory" in message(client.get("stat", "/home/demo/file/x"))
    assert "Not a directory" in message(client.get("stat", "/home/demo/file/.."))
    assert "File name too long" in message(client.get("stat", f"/home/demo/{'x' * 256}"))


def test_names_and_times_follow_locale_and_zone(
    emulator: Emulator, client: Client, home: Path
) -> None:
    (home / "é").touch()
    os.utime(home / "é", (1719828000, 1719828000))  # in summer
    entry = client.get("ls", "/home/demo").json()["output"][0]
    assert (entry["name"], entry["lastModified"]) == ("é", "2024-07-01T12:00:00")
    emulator.knobs.put("locale", "c")
    emulator.knobs.put("zone", "America/New_York")
    entry = client.get("ls", "/home/demo").json()["output"][0]
    assert (entry["name"], entry["lastModified"]) == ("\\303\\251", "2024-07-01T06:00:00")
    assert client.get("stat", "/home/demo/é").status_code == 200


def test_an_hour_happens_twice_when_summer_ends(client: Client, home: Path) -> None:
    for name, epoch in (("summer", 1729989000), ("winter", 1729992600)):
        (home / name).touch()
        os.utime(home / name, (epoch, epoch))
    rows = client.get("ls", "/home/demo").json()["output"]
    assert [row["lastModified"] for row in rows] == ["2024-10-27T02:30:00"] * 2


def test_quota_cuts_the_file_short(emulator: Emulator, client: Client, home: Path) -> None:
    client.upload("/home/demo", "a", b"x" * 600)
    emulator.knobs.put("quota", 1000)
    refused = client.upload("/home/demo", "b", b"x" * 600)
    assert refused.status_code == 500
    assert message(refused).endswith("base64: write error: Disk quota exceeded")
    assert (home / "b").stat().st_size == 400
    assert client.upload("/home/demo", "a", b"x" * 500).status_code == 204  # it only shrinks
    emulator.knobs.put("quota", 100)
    refused = client.ops("POST", "mkdir", json={"path": "/home/demo/d"})
    assert message(refused).endswith("Disk quota exceeded")


def test_full_disk(emulator: Emulator, client: Client, home: Path) -> None:
    client.upload("/home/demo", "a", b"x")
    emulator.knobs.put("disk_full", True)
    refused = client.upload("/home/demo", "a", b"xyz")
    assert message(refused).endswith("No space left on device")
    assert (home / "a").stat().st_size == 0  # truncated before the write failed
    made = client.ops("POST", "mkdir", json={"path": "/home/demo/d"})
    assert message(made).endswith("No space left on device")
    emulator.knobs.put("disk_full", False)
    assert client.upload("/home/demo", "a", b"xyz").status_code == 204


def test_full_disk_for_archives(emulator: Emulator, client: Client, home: Path) -> None:
    (home / "d").mkdir()
    (home / "d" / "f").write_text("data")
    body = {"path": "/home/demo/d", "targetPath": "/home/demo/d.tgz"}
    assert client.ops("POST", "compress", json=body).status_code == 204
    (home / "out").mkdir()
    emulator.knobs.put("disk_full", True)
    body = {"path": "/home/demo/d.tgz", "targetPath": "/home/demo/out"}
    refused = client.ops("POST", "extract", json=body)
    assert refused.status_code == 500
    assert "tar: d/f: Cannot write: No space left on device" in message(refused)
    assert (home / "out" / "d" / "f").stat().st_size == 0


def test_dereferenced_archive_follows_links_of_the_cluster(client: Client, home: Path) -> None:
    (home / "target").write_text("through the link")
    (home / "d").mkdir()
    (home / "d" / "link").symlink_to("/home/demo/target")
    body = {"path": "/home/demo/d", "targetPath": "/home/demo/d.tgz", "dereference": True}
    assert client.ops("POST", "compress", json=body).status_code == 204
    archive = client.get("download", "/home/demo/d.tgz").content
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile("d/link")
        assert member is not None
        assert member.read() == b"through the link"


def test_empty_upload_waits_for_the_limit_and_leaves_an_empty_file(
    client: Client, home: Path
) -> None:
    started = time.perf_counter()
    assert client.upload("/home/demo", "empty", b"").status_code == 408
    assert time.perf_counter() - started >= 0.3
    assert (home / "empty").stat().st_size == 0


def test_reading_a_pipe_runs_into_the_limit(client: Client, home: Path) -> None:
    os.mkfifo(home / "pipe")
    assert client.get("download", "/home/demo/pipe").status_code == 408
    assert client.get("file", "/home/demo/pipe").json()["output"] == "fifo (named pipe)"


def test_listing_over_the_output_limit_is_refused(
    emulator: Emulator, client: Client, home: Path
) -> None:
    for number in range(20):
        (home / f"{number:040d}").touch()
    line = len("-rw-r--r-- 1 demo staff 0 2024-01-01T00:00:00 \n") + 42
    emulator.knobs.put("max_ops_file_size", 8 + 20 * line + 1)
    assert client.get("ls", "/home/demo").status_code == 200
    emulator.knobs.put("max_ops_file_size", 8 + 20 * line)
    assert client.get("ls", "/home/demo").status_code == 413


def test_banner_spoils_what_is_parsed(emulator: Emulator, client: Client, home: Path) -> None:
    (home / "f").write_text("data")
    emulator.knobs.put("banner", "Welcome to the cluster!\n")
    assert client.get("stat", "/home/demo/f").status_code == 500
    assert client.names("/home/demo") == ["f"]
    assert client.get("view", "/home/demo/f").json()["output"] == "Welcome to the cluster!\ndata"


def test_file_systems_may_lie_deep(tmp_path: Path) -> None:
    deep = (FileSystem("/capstor/users", "users"), FileSystem("/capstor/scratch", "scratch", True))
    with Emulator(tmp_path / "root", file_systems=deep, settings={"queue_seconds": 0}) as emulator:
        client = Client(emulator.url, emulator.tokens.issue("demo", 300))
        assert client.upload("/capstor/users/demo", "f", b"x").status_code == 204
        assert client.get("ls", "/capstor").status_code == 400
        assert client.upload("/capstor/users", "f", b"x").status_code == 403
        assert client.get("ls", "/capstor/users/demo/f").json()["output"][0]["user"] == "demo"
        job = client.submit("cat ~/f > ~/g", workingDirectory="/capstor/users/demo")
        assert client.wait(job)["status"]["state"] == "COMPLETED"
        assert Path(emulator.systems[0]["local_home"], "g").read_text() == "x"
        client.http.close()
