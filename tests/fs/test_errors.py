"""Refusals: the errno that a local file system would give, and never a file that looks gone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness import Server, wait_for
from .drivers import Driver
from .sites import Site, Sites

STRANGER = 54321


def answers(look: Callable[[], object]) -> bool:
    try:
        look()
    except OSError:
        return False
    return True


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """A mount that gives up on a silent server soon."""
    return sites.site(kind, op_timeout=4.0)


def refused(code: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as refusal:
        call()
    assert errno.errorcode[refusal.value.errno or 0] == errno.errorcode[code]


def test_a_file_without_permissions(fs: Driver, there: Path, server: Server) -> None:
    (there / "secret").write_bytes(b"x")
    (there / "secret").chmod(0)
    fs.listdir()
    server.requests(reset=True)
    refused(errno.EACCES, lambda: fs.open("secret"))
    refused(errno.EACCES, lambda: fs.open("secret", os.O_WRONLY))
    refused(errno.EACCES, lambda: fs.truncate("secret", 0))
    assert not fs.access("secret", os.R_OK)
    assert server.requests() == []
    fs.chmod("secret", 0o400)
    assert fs.read_file("secret") == b"x"
    refused(errno.EACCES, lambda: fs.append("secret", b"y"))


def test_a_directory_that_may_not_be_written(fs: Driver, there: Path, server: Server) -> None:
    (there / "ro").mkdir()
    (there / "ro" / "f").write_bytes(b"x")
    (there / "ro").chmod(0o555)
    (there / "mine").write_bytes(b"y")
    fs.listdir("ro")
    fs.listdir()
    server.requests(reset=True)
    refused(errno.EACCES, lambda: fs.write_file("ro/new", b"x"))
    refused(errno.EACCES, lambda: fs.mkdir("ro/new"))
    refused(errno.EACCES, lambda: fs.symlink("x", "ro/new"))
    refused(errno.EACCES, lambda: fs.unlink("ro/f"))
    refused(errno.EACCES, lambda: fs.rename("ro/f", "ro/g"))
    refused(errno.EACCES, lambda: fs.rename("ro/f", "g"))
    refused(errno.EACCES, lambda: fs.rename("mine", "ro/g"))
    assert server.requests() == []
    fs.append("ro/f", b"y")
    fs.land()
    assert (there / "ro" / "f").read_bytes() == b"xy"


def test_a_directory_that_may_not_be_read(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    (there / "d" / "f").write_bytes(b"x")
    (there / "d").chmod(0o000)
    refused(errno.EACCES, lambda: fs.listdir("d"))
    # Not ENOENT: nobody knows.
    refused(errno.EACCES, lambda: fs.stat("d/f"))
    refused(errno.EACCES, lambda: fs.stat("d/none"))
    refused(errno.EACCES, lambda: fs.read_file("d/f"))


def test_a_directory_that_may_only_be_passed_through(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    (there / "d" / "f").write_bytes(b"x")
    (there / "d").chmod(0o311)
    refused(errno.EACCES, lambda: fs.listdir("d"))
    assert fs.stat("d/f").st_size == 1
    assert fs.read_file("d/f") == b"x"
    with pytest.raises(FileNotFoundError):
        fs.stat("d/none")
    fs.write_file("d/new", b"new")
    fs.land()
    assert (there / "d" / "new").read_bytes() == b"new"


def test_files_of_others(fs: Driver, there: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    for name, mode in [("secret", 0o600), ("shared", 0o644), ("open", 0o666)]:
        (there / name).write_bytes(b"theirs")
        (there / name).chmod(mode)
        os.chown(there / name, STRANGER, STRANGER)
    refused(errno.EACCES, lambda: fs.read_file("secret"))
    assert fs.read_file("shared") == b"theirs"
    refused(errno.EACCES, lambda: fs.append("shared", b"!"))
    fs.append("open", b", and mine")
    fs.land()
    assert (there / "open").read_bytes() == b"theirs, and mine"
    assert os.stat(there / "open").st_uid == STRANGER


def test_a_sticky_directory(fs: Driver, there: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    (there / "tmp").mkdir()
    (there / "tmp" / "theirs").write_bytes(b"x")
    os.chown(there / "tmp" / "theirs", STRANGER, STRANGER)
    os.chown(there / "tmp", STRANGER, STRANGER)
    (there / "tmp").chmod(0o1777)
    with pytest.raises(PermissionError):
        fs.unlink("tmp/theirs")
    fs.write_file("tmp/mine", b"x")
    fs.land()
    fs.unlink("tmp/mine")
    fs.land()
    assert os.listdir(there / "tmp") == ["theirs"]


def test_a_refusal_by_the_cluster_itself(fs: Driver, there: Path, server: Server) -> None:
    # The mode says yes, the cluster says no: root squash, an ACL, a policy.
    (there / "f").write_bytes(b"content")
    body = {"errorType": "error", "message": "cat: f: Permission denied"}
    server.faults(
        [{"kind": "status", "match": "ops/download", "status": 403, "body": body, "count": -1}]
    )
    refused(errno.EACCES, lambda: fs.read_file("f"))
    assert fs.stat("f").st_size == 7
    server.faults([])
    assert fs.read_file("f") == b"content"


# -- a server that can't be reached ----------------------------------------------------------------

DOWN = [{"kind": "reset", "match": "*", "count": -1}]
#: What programs may be told where nobody knows whether a file is there.
UNKNOWN = {
    errno.EIO, errno.EAGAIN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ENOTCONN,
}  # fmt: skip


def unknown(call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as refusal:
        call()
    assert refusal.value.errno in UNKNOWN, errno.errorcode[refusal.value.errno or 0]


def test_an_unreachable_server_makes_nothing_look_gone(
    fs: Driver, there: Path, server: Server
) -> None:
    (there / "known").write_bytes(b"content")
    (there / "listed").write_bytes(b"content")
    (there / "d").mkdir()
    fs.listdir()
    assert fs.read_file("known") == b"content"
    server.faults(DOWN)
    # What is known answers.
    assert sorted(fs.listdir()) == ["d", "known", "listed"]
    assert fs.read_file("known") == b"content"
    assert fs.stat("listed").st_size == 7
    unknown(lambda: fs.read_file("listed"))
    unknown(lambda: fs.listdir("d"))
    unknown(lambda: fs.stat("d/anything"))
    fs.refresh()
    unknown(lambda: fs.stat("known"))
    unknown(fs.listdir)
    server.faults([])
    # Whether it is back is looked at now and then, not at every call.
    assert wait_for(lambda: answers(fs.listdir))
    assert sorted(fs.listdir()) == ["d", "known", "listed"]
    assert fs.read_file("listed") == b"content"


def test_writing_goes_on_while_the_server_is_away(fs: Driver, there: Path, server: Server) -> None:
    fs.listdir()
    server.faults(DOWN)
    fs.write_file("f", b"written in the train")
    assert fs.read_file("f") == b"written in the train"
    assert fs.listdir() == ["f"]
    assert "f" in fs.pending()
    server.faults([])
    fs.land()
    assert (there / "f").read_bytes() == b"written in the train"


def test_a_server_that_is_busy_is_asked_again(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"content")
    busy = {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}, "body": "slow down"}
    server.faults([busy | {"match": "ops/*", "count": 2}])
    assert fs.read_file("f") == b"content"


def test_a_store_whose_answer_got_lost_is_no_conflict(
    fs: Driver, there: Path, server: Server
) -> None:
    for name in ("new", "old"):
        if name == "old":
            (there / name).write_bytes(b"before")
            fs.refresh()
        server.faults([{"kind": "lost_answer", "match": "ops/upload"}])
        fs.write_file(name, b"mine alone")
        fs.land()
        assert (there / name).read_bytes() == b"mine alone"
    assert sorted(os.listdir(there)) == ["new", "old"]


@pytest.mark.parametrize("fault", ["drop", "lost_answer"])
def test_an_empty_file_whose_upload_fails_is_stored_all_the_same(
    fs: Driver, there: Path, server: Server, fault: str
) -> None:
    server.faults([{"match": "*/upload", "kind": fault}])
    fs.write_file("new", b"")
    fs.land()
    assert (there / "new").read_bytes() == b""
    assert fs.errors() == []


def test_a_store_that_the_server_breaks_off_is_done_again(
    fs: Driver, there: Path, server: Server
) -> None:
    (there / "f").write_bytes(b"before")
    server.faults([{"kind": "status", "match": "ops/upload", "status": 503, "body": "no"}])
    fs.write_file("f", b"mine alone")
    fs.land()
    assert (there / "f").read_bytes() == b"mine alone"
    assert os.listdir(there) == ["f"]


def test_a_download_that_is_cut_is_never_a_short_file(
    fs: Driver, there: Path, server: Server
) -> None:
    content = b"0123456789" * 5000
    (there / "f").write_bytes(content)
    server.faults([{"kind": "cut_body", "match": "ops/download", "bytes": 1000}])
    assert fs.read_file("f") == content


def test_an_expired_token_is_renewed(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"content")
    server.faults([{"kind": "status", "match": "ops/ls", "status": 401, "body": "expired"}])
    assert fs.read_file("f") == b"content"


@pytest.mark.parametrize("place", ["", "new/"])
def test_a_name_that_is_too_long(fs: Driver, there: Path, server: Server, place: str) -> None:
    # Believed, it could never be stored: the cluster takes 255 bytes.
    long = f"{place}{'n' * 256}"
    (there / "f").write_bytes(b"x")
    fs.listdir()
    if place:
        fs.mkdir("new")
    server.requests(reset=True)
    refused(errno.ENAMETOOLONG, lambda: fs.stat(long))
    refused(errno.ENAMETOOLONG, lambda: fs.write_file(long, b"x"))
    refused(errno.ENAMETOOLONG, lambda: fs.mkdir(long))
    refused(errno.ENAMETOOLONG, lambda: fs.symlink("f", long))
    refused(errno.ENAMETOOLONG, lambda: fs.link("f", long))
    refused(errno.ENAMETOOLONG, lambda: fs.rename("f", long))
    refused(errno.ENAMETOOLONG, lambda: fs.write_file(f"{place}{'é' * 128}", b"x"))
    assert server.requests() == []
    fs.write_file(f"{place}{'é' * 127}e", b"x")
    fs.land()
    assert f"{'é' * 127}e" in os.listdir(there / place)
