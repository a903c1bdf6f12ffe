"""The typed client over real HTTP: one test a promise, most of them about what must not happen."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import stat
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api import (
    ApiSession,
    Exists,
    Firecrest,
    Inexact,
    IsADirectory,
    JobNotFound,
    NotADirectory,
    NotFound,
    PermissionRefused,
    ServerV2,
    StaticToken,
    SystemUnknown,
    TooLarge,
    TypedClient,
)
from firecrestfs.api.archives import only_warned
from firecrestfs.emulator import Emulator
from firecrestfs.errors import FirecrestException
from firecrestfs.model import Kind, Source

from .script import ScriptedServer, own, reply

S = "cluster"
Home = tuple[str, Path]


@pytest.fixture(scope="module", params=["v2", "v1"])
def version(request: pytest.FixtureRequest) -> str:
    """Everything here holds for both versions unless it says otherwise."""
    return str(request.param)


def refused(act: Callable[..., object], *args: Any, **how: Any) -> FirecrestException:
    with pytest.raises(FirecrestException) as caught:
        act(*args, **how)
    return caught.value


def asked(emu: Emulator) -> list[str]:
    """The endpoints asked since the last call, by v2's names.

    Without tokens, the version probe, and what v1 is asked about itself.
    """
    found = [
        e
        for e in emu.requests.clear()
        if not e.is_token and e.endpoint and ".firecrest" not in e.query
    ]
    names = [e.endpoint.replace("utilities/", "ops/") for e in found]
    return [name for name in names if name not in ("status/liveness", "status/parameters")]


only_v2 = pytest.mark.parametrize("version", ["v2"], indirect=True)
only_v1 = pytest.mark.parametrize("version", ["v1"], indirect=True)


def refuse_unaddressable(emu: Emulator, *texts: str) -> bool:
    """Whether v1 can't address one of *texts*, so that only a refusal can be expected."""
    return emu.api == "v1" and any(part in text for text in texts for part in FORBIDDEN_V1)


FORBIDDEN_V1 = {*"<>|;\"'&\\()`", "  ", *map(chr, range(32))}


# -- systems ------------------------------------------------------------------------------------


def test_systems(typed: TypedClient, emu: Emulator) -> None:
    (found,) = typed.systems()
    assert found.name == S
    assert [root.path for root in found.roots] == ["/home", "/scratch"]
    limits = (found.limits.upload, found.limits.download, found.limits.view)
    if emu.api == "v1":
        assert limits == (5242880 - 5120, 3932157, 3932157)
    else:
        assert limits == (5242880, 3932157, 2621439)
    assert (found.scheduler, found.problem) == ("slurm", "")
    assert found.transfer_method == ("s3v4" if emu.api == "v1" else "s3")
    assert not found.needs_account


def test_systems_with_troubles(typed: TypedClient, emu: Emulator) -> None:
    emu.knobs.put("needs_account", True)
    emu.knobs.put("unhealthy", "ssh")
    (found,) = typed.systems()
    assert found.needs_account == (emu.api == "v2")
    assert found.problem


def test_userinfo(typed: TypedClient) -> None:
    found = typed.userinfo(S)
    assert found.name == "demo"
    assert found.groups[found.gid]


def test_an_unknown_system_is_no_missing_file(typed: TypedClient) -> None:
    for name in ("nosuch", "no such/../x", ""):
        exc = refused(typed.stat, name, "/home/demo")
        assert isinstance(exc, SystemUnknown)
        assert not isinstance(exc, FileNotFoundError)


def test_the_version_is_found_once(emu: Emulator, typed: TypedClient) -> None:
    typed.systems()
    typed.systems()
    probes = [e for e in emu.requests.clear() if e.path.startswith("/status/liveness")]
    assert len(probes) == 1


# -- listings -----------------------------------------------------------------------------------


def test_list(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path, local = home
    (local / "file").write_bytes(b"12345")
    (local / "file").chmod(0o640)
    os.utime(local / "file", (1719828000, 1719828000))
    (local / "dir").mkdir()
    (local / ".hidden").touch()
    (local / "link").symlink_to("file")
    entries = {entry.name: entry.attr for entry in typed.list(S, path)}
    assert asked(emu) == ["ops/ls"]
    assert set(entries) == {"file", "dir", ".hidden", "link"}
    file = entries["file"]
    assert (file.kind, file.mode, file.size, file.source) == (Kind.FILE, 0o640, 5, Source.LS)
    assert file.uid == typed.userinfo(S).uid
    assert file.listed == "2024-07-01T12:00:00"
    assert entries["dir"].kind is Kind.DIRECTORY
    assert (entries["link"].kind, entries["link"].target) == (Kind.SYMLINK, "file")


def test_list_of_an_empty_directory(typed: TypedClient, home: Home) -> None:
    assert typed.list(S, home[0]) == []


def test_list_of_what_is_no_directory(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "file").touch()
    (local / "dir").mkdir()
    (local / "dir" / "inside").touch()
    (local / "link").symlink_to("dir")
    (local / "dangling").symlink_to("nowhere")
    for name in ("file", "file/", "link", "dangling", "file/x"):
        exc = refused(typed.list, S, f"{path}/{name}")
        assert isinstance(exc, NotADirectory), name
    assert [entry.name for entry in typed.list(S, f"{path}/link/")] == ["inside"]
    assert isinstance(refused(lambda: typed.list(S, f"{path}/nope")), NotFound)
    assert isinstance(refused(lambda: typed.list(S, f"{path}/dangling/")), NotFound)


@only_v2
def test_list_outside_the_roots(typed: TypedClient) -> None:
    for path in ("/", "/etc", "/homeless"):
        exc = refused(typed.list, S, path)
        assert exc.errno == errno.EACCES


ODD = [
    "two  spaces",
    " lead",
    "trail ",
    "a -> b",
    'quo"te',
    "back\\slash",
    "end\\",
    "new\nline",
    "tab\t",
    "cr\r",
    "esc\x1b[31m",
    "bell\a",
    "café",
    "日本語",
    "😀",
    "nel\x85x",
    "sep\u2028x",
    "it's",
    "$HOME",
    "`id`",
    "*",
    "-rf",
    "a&b<c>",
    "#1",
    "percent%41",
]


@pytest.mark.parametrize("locale", ["utf8", "c"])
@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_listed_as_they_are(
    typed: TypedClient, emu: Emulator, home: Home, name: str, locale: str
) -> None:
    emu.knobs.put("locale", locale)
    (home[1] / name).write_bytes(b"x")
    assert [entry.name for entry in typed.list(S, home[0])] == [name]


@pytest.mark.parametrize("name", ["back\\nslash", "C:\\temp\\new", "a\\033b"])
def test_real_backslashes_are_told_from_escapes(
    typed: TypedClient, emu: Emulator, home: Home, name: str
) -> None:
    (home[1] / name).write_bytes(b"x")
    assert [entry.name for entry in typed.list(S, home[0])] == [name]
    # v1 can't look at such a name; it is asked for the names alone, which are exact.
    assert asked(emu) == ["ops/ls", "ops/stat" if emu.api == "v2" else "ops/ls"]
    assert [entry.name for entry in typed.list(S, home[0])] == [name]
    assert asked(emu) == ["ops/ls"] * (1 if emu.api == "v2" else 2)


def test_names_with_the_same_spelling_are_told_apart(typed: TypedClient, home: Home) -> None:
    names = {"nl\nx": 1, "nl\\nx": 2, "plain": 3}
    (home[1] / "d").mkdir()
    for name, size in names.items():
        (home[1] / name).write_bytes(b"x" * size)
        (home[1] / "d" / name).write_bytes(b"x" * size)
    found = typed.list(S, home[0])
    assert {entry.name: entry.attr.size for entry in found if entry.name != "d"} == names
    tree = {entry.name: entry.attr.size for entry in typed.list(S, home[0], recursive=True)}
    assert {name: tree[f"d/{name}"] for name in names} == names


def test_many_doubtful_names_cost_few_requests(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    for number in range(50):
        (home[1] / f"x\\n{number}").touch()
    assert len(typed.list(S, home[0])) == 50
    assert len(asked(emu)) < 10


def test_a_name_that_is_not_utf8(typed: TypedClient, home: Home) -> None:
    (home[1] / "bad\udcff.bin").touch()
    (entry,) = typed.list(S, home[0])
    assert os.fsencode(entry.name) == b"bad\xff.bin"
    exc = refused(lambda: typed.stat(S, f"{home[0]}/{entry.name}"))
    assert exc.errno == errno.EINVAL


def test_a_tree(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path, local = home
    for name in ('q"d', "new\ndir", "café", "back\\nslash"):
        (local / name).mkdir()
        (local / name / "leaf").touch()
    found = {entry.name for entry in typed.list(S, path, recursive=True)}
    assert found == {
        f"{name}{leaf}"
        for name in ('q"d', "new\ndir", "café", "back\\nslash")
        for leaf in ("", "/leaf")
    }
    assert asked(emu).count("ops/ls") <= (1 if emu.api == "v2" else 2)


def test_a_tree_with_a_closed_part(typed: TypedClient, home: Home, emu: Emulator) -> None:
    path, local = home
    (local / "closed").mkdir()
    (local / "closed").chmod(0)
    try:
        exc = refused(lambda: typed.list(S, path, recursive=True))
        assert isinstance(exc, PermissionRefused)
    finally:
        (local / "closed").chmod(0o755)


def entry(name: str, **changes: str) -> dict[str, Any]:
    raw = {"type": "-", "permissions": "rw-r--r--", "user": "1", "group": "1", "size": "1"}
    return {"name": name, "lastModified": "2024-07-01T12:00:00", **raw, **changes}


def scripted(server: ScriptedServer) -> TypedClient:
    return TypedClient(Firecrest(server.url, StaticToken("t"), api_version="2", deadline_s=5))


def listing(*entries: dict[str, Any]) -> Any:
    return reply(200, {"output": list(entries)}, {"F7T-AppVersion": "2.x.x"})


def test_impossible_names_are_dropped_with_a_line(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [entry(name) for name in ("", ".", "..", "a/b", "a\0b")]
    bad += [entry("x", size="?"), entry("y", type="z"), entry("z", permissions="")]
    server.play(listing(entry("good"), *bad))
    assert [item.name for item in scripted(server).list(S, "/home/d")] == ["good"]
    assert len(caplog.records) == len(bad)


def test_a_tree_never_leads_out(server: ScriptedServer) -> None:
    server.play(listing(entry("a"), entry("a/../../b"), entry("a//b"), entry("a/b")))
    found = scripted(server).list(S, "/home/d", recursive=True)
    assert [item.name for item in found] == ["a", "a/b"]


VANISHED = (
    "Remote process failed with exit status:1 and error message:"
    "ls: cannot access '/home/d/gone': No such file or directory"
)
MISSING = (
    "Remote process failed with exit status:2 and error message:"
    "ls: cannot access '/home/d': No such file or directory"
)


def test_an_entry_that_vanishes_meanwhile_does_not_hide_the_directory(
    server: ScriptedServer,
) -> None:
    server.play(own(404, VANISHED), listing(entry("a")))
    assert [item.name for item in scripted(server).list(S, "/home/d")] == ["a"]


def test_a_directory_that_keeps_changing_is_no_missing_one(server: ScriptedServer) -> None:
    there = reply(200, {"output": {"mode": 16877}}, {"F7T-AppVersion": "2.x.x"})
    server.play(own(404, VANISHED), own(404, VANISHED), there)
    exc = refused(lambda: scripted(server).list(S, "/home/d"))
    assert (exc.errno, exc.transient) == (errno.EAGAIN, True)


def test_a_missing_directory_is_believed_at_once(server: ScriptedServer) -> None:
    server.play(own(404, MISSING))
    assert isinstance(refused(lambda: scripted(server).list(S, "/home/d")), NotFound)
    assert len(server.seen) == 1


def test_an_unreachable_server_never_makes_files_look_missing(emu: Emulator, home: Home) -> None:
    typed = scripted_gone()
    for act in (lambda: typed.stat(S, "/home/d"), lambda: typed.list(S, "/home/d")):
        exc = refused(act)
        assert not isinstance(exc, FileNotFoundError)
        assert exc.transient


def scripted_gone() -> TypedClient:
    with ScriptedServer() as gone:
        return scripted(gone)


# -- time ---------------------------------------------------------------------------------------


def test_listing_times_through_the_learnt_zone(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    emu.knobs.put("zone", "America/Denver")
    path, local = home
    times = {"winter": 1705320000, "summer": 1719828000, "fresh": int(time.time())}
    for name, at in times.items():
        (local / name).touch()
        os.utime(local / name, (at, at))
    typed.list(S, path)
    asked(emu)
    assert typed.learn_zone(S, path)
    assert asked(emu) == ["ops/stat", "ops/stat"]
    listed = {entry.name: entry.attr for entry in typed.list(S, path)}
    assert {name: attr.mtime_ns // 10**9 for name, attr in listed.items()} == times
    assert typed.mtime_ns(S, listed["winter"].listed) == times["winter"] * 10**9


def test_zones_are_learnt_from_stats_for_free(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    emu.knobs.put("zone", "Asia/Tokyo")
    path, local = home
    (local / "f").touch()
    os.utime(local / "f", (1719828000, 1719828000))
    typed.list(S, path)
    typed.stat(S, f"{path}/f")
    (again,) = typed.list(S, path)
    assert again.attr.mtime_ns == 1719828000 * 10**9
    # A cluster that moves, or a wrong guess: the next pair corrects it.
    emu.knobs.put("zone", "America/Denver")
    typed.list(S, path)
    typed.stat(S, f"{path}/f")
    (again,) = typed.list(S, path)
    assert again.attr.mtime_ns == 1719828000 * 10**9


def test_a_zone_can_be_configured(client: Firecrest, emu: Emulator, home: Home) -> None:
    emu.knobs.put("zone", "Australia/Adelaide")
    typed = TypedClient(client, zones={S: "Australia/Adelaide"})
    (home[1] / "f").touch()
    os.utime(home[1] / "f", (1719828000, 1719828000))
    assert typed.list(S, home[0])[0].attr.mtime_ns == 1719828000 * 10**9


def test_nothing_is_asked_about_what_was_not_listed(typed: TypedClient, emu: Emulator) -> None:
    typed.systems()
    asked(emu)
    assert not typed.learn_zone(S, "/home/demo")
    assert asked(emu) == []


# -- attributes ---------------------------------------------------------------------------------


def test_stat(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path, local = home
    (local / "f").write_bytes(b"123")
    (local / "f").chmod(0o4640)
    os.utime(local / "f", (1, 1719828000))
    os.link(local / "f", local / "g")
    found = typed.stat(S, f"{path}/f")
    real = (local / "f").stat()
    assert (found.kind, found.mode, found.size, found.nlink) == (Kind.FILE, 0o4640, 3, 2)
    assert (found.mtime_ns, found.ino, found.source) == (
        1719828000 * 10**9,
        real.st_ino,
        Source.STAT,
    )
    assert asked(emu) == ["ops/stat"]


def test_stat_of_links(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "dir").mkdir()
    (local / "link").symlink_to("dir")
    (local / "dangling").symlink_to("nowhere")
    (local / "loop").symlink_to("loop")
    assert typed.stat(S, f"{path}/link").kind is Kind.SYMLINK
    assert typed.stat(S, f"{path}/link/").kind is Kind.SYMLINK
    assert typed.stat(S, f"{path}/link", follow=True).kind is Kind.DIRECTORY
    assert typed.stat(S, f"{path}/dangling").kind is Kind.SYMLINK
    assert isinstance(refused(lambda: typed.stat(S, f"{path}/dangling", follow=True)), NotFound)
    exc = refused(lambda: typed.stat(S, f"{path}/loop", follow=True))
    assert exc.errno == errno.ELOOP


def test_stat_errors(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "f").touch()
    exc = refused(lambda: typed.stat(S, f"{path}/nope"))
    assert (exc.errno, exc.filename) == (errno.ENOENT, f"{path}/nope")
    assert refused(lambda: typed.stat(S, f"{path}/f/x")).errno == errno.ENOTDIR
    assert refused(lambda: typed.stat(S, f"{path}/{'x' * 256}")).errno == errno.ENAMETOOLONG


def test_a_quote_never_reaches_the_server(typed: TypedClient, emu: Emulator, home: Home) -> None:
    """`emu` also fails the test if any path ever changed a command."""
    path, local = home
    bad = f"{path}/x'; touch pwned; '"
    typed.systems()
    asked(emu)
    acts: list[Callable[[], object]] = [
        lambda: typed.stat(S, bad),
        lambda: typed.list(S, bad),
        lambda: typed.readlink(S, bad),
        lambda: typed.download(S, bad),
        lambda: typed.view(S, bad, 0, 10),
        lambda: typed.head(S, bad, lines=1),
        lambda: typed.tail(S, bad, lines=1),
        lambda: typed.checksum(S, bad),
        lambda: typed.upload(S, path, "x'y", b"1"),
        lambda: typed.upload(S, bad, "x", b"1"),
        lambda: typed.mkdir(S, bad),
        lambda: typed.remove(S, bad, Kind.FILE),
        lambda: typed.remove_tree(S, bad),
        lambda: typed.symlink(S, bad, f"{path}/l"),
        lambda: typed.symlink(S, f"{path}/l", bad),
        lambda: typed.chmod(S, bad, 0o644),
        lambda: typed.chown(S, bad, 1, None),
        lambda: typed.compress(S, bad, f"{path}/a.tgz"),
        lambda: typed.compress(S, path, bad),
        lambda: typed.extract(S, bad, path),
        lambda: typed.extract(S, f"{path}/a.tgz", bad),
        lambda: typed.submit(S, script="#!/bin/sh\n", working_directory=bad),
        lambda: typed.submit(S, script_path=bad, working_directory=path),
        lambda: typed.submit(S, script="#!/bin/sh\n", working_directory=path, name="x'y"),
    ]
    for act in acts:
        assert refused(act).errno == errno.EINVAL
    assert asked(emu) == []
    assert list(local.iterdir()) == []


def test_readlink(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "dir").mkdir()
    (local / "f").touch()
    for name, target in {
        "a": "f",
        "b": "dir",
        "c": "new\nline",
        "d": "new\\nline",
        "e": "é ->",
    }.items():
        (local / name).symlink_to(target)
        assert typed.readlink(S, f"{path}/{name}") == target
    for name in ("f", "dir"):
        exc = refused(typed.readlink, S, f"{path}/{name}")
        assert exc.errno == errno.EINVAL
    assert isinstance(refused(lambda: typed.readlink(S, f"{path}/nope")), NotFound)


def test_lstat_entry(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "f x").write_bytes(b"123")
    (local / "dir").mkdir()
    found = typed.lstat_entry(S, f"{path}/f x")
    assert (found.name, found.attr.size, found.attr.source) == ("f x", 3, Source.LS)
    for name in ("dir", ""):
        exc = refused(typed.lstat_entry, S, f"{path}/{name}")
        assert isinstance(exc, IsADirectory)


# -- content ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100_000, 3932157])
def test_download(typed: TypedClient, home: Home, size: int) -> None:
    data = os.urandom(size)
    (home[1] / "f").write_bytes(data)
    assert typed.download(S, f"{home[0]}/f", expect=size) == data


def test_the_download_limit(typed: TypedClient, emu: Emulator, home: Home) -> None:
    (home[1] / "f").write_bytes(b"x" * 3932158)
    typed.systems()
    asked(emu)
    exc = refused(lambda: typed.download(S, f"{home[0]}/f", expect=3932158))
    assert isinstance(exc, TooLarge)
    assert asked(emu) == []
    assert refused(lambda: typed.download(S, f"{home[0]}/f")).errno == errno.EFBIG


def test_a_file_that_changed_since_it_was_listed(typed: TypedClient, home: Home) -> None:
    (home[1] / "f").write_bytes(b"12345")
    assert refused(lambda: typed.download(S, f"{home[0]}/f", expect=6)).errno == errno.ESTALE
    assert typed.download(S, f"{home[0]}/f", expect=4) == b"12345"


def test_download_errors(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "dir").mkdir()
    (local / "dangling").symlink_to("nowhere")
    assert isinstance(refused(lambda: typed.download(S, f"{path}/dir")), IsADirectory)
    assert isinstance(refused(lambda: typed.download(S, f"{path}/dangling")), NotFound)


def test_a_portals_page_is_no_file(server: ScriptedServer) -> None:
    systems = reply(200, {"systems": [{"name": S}]}, {"F7T-AppVersion": "2.x.x"})
    server.play(systems, reply(200, "<html>log in</html>"))
    exc = refused(lambda: scripted(server).download(S, "/home/f"))
    assert exc.errno == errno.EBADMSG


def test_view_is_exact_or_refuses(typed: TypedClient, home: Home) -> None:
    text = "".join(f"{n:07d}\n" for n in range(5000)).encode()
    (home[1] / "t").write_bytes(text)
    for offset, size in [(0, 10), (16, 16), (13, 10), (999, 3), (39990, 10), (39990, 100), (7, 1)]:
        assert typed.view(S, f"{home[0]}/t", offset, size) == text[offset : offset + size]
    assert typed.view(S, f"{home[0]}/t", len(text), 10) == b""
    assert typed.view(S, f"{home[0]}/t", 5, 0) == b""


@pytest.mark.parametrize(
    "data",
    [
        "äöü€😀\n".encode() * 300,
        bytes(range(256)) * 20,
        b"\xff" * 1000,
        b"a" * 4095 + b"\xff" * 100,
        ("a" * 4095 + "é" * 100).encode(),
        "\ufffd".encode() * 500,
        b"text\r\n\r\0\x85" * 400,
    ],
)
def test_view_never_lies(typed: TypedClient, home: Home, data: bytes) -> None:
    (home[1] / "t").write_bytes(data)
    for offset, size in [
        (0, 4096),
        (0, 10),
        (10, 10),
        (5, 11),
        (1, 7),
        (128, 64),
        (3, 4),
        (990, 9),
    ]:
        try:
            got = typed.view(S, f"{home[0]}/t", offset, size)
        except Inexact as exc:
            assert exc.errno == errno.EILSEQ
        else:
            assert got == data[offset : offset + size]


def test_view_beyond_the_limit(typed: TypedClient, emu: Emulator, home: Home) -> None:
    emu.knobs.put("max_ops_file_size", 2001)
    (home[1] / "t").write_bytes(b"0123456789" * 1000)
    assert typed.view(S, f"{home[0]}/t", 0, 1000) == b"0123456789" * 100
    asked(emu)
    if emu.api == "v1":
        assert typed.view(S, f"{home[0]}/t", 0, 1900) == b"0123456789" * 190
        assert typed.view(S, f"{home[0]}/t", 9000, 2000) == b"0123456789" * 100
        assert isinstance(refused(lambda: typed.view(S, f"{home[0]}/t", 5000, 10)), Inexact)
        return
    assert isinstance(refused(lambda: typed.view(S, f"{home[0]}/t", 0, 1001)), Inexact)
    assert asked(emu) == []


def test_view_of_what_cannot_be_viewed(typed: TypedClient, home: Home) -> None:
    (home[1] / "dir").mkdir()
    assert isinstance(refused(lambda: typed.view(S, f"{home[0]}/dir", 0, 5)), IsADirectory)
    assert isinstance(refused(lambda: typed.view(S, f"{home[0]}/nope", 0, 5)), NotFound)
    assert refused(lambda: typed.view(S, f"{home[0]}/x", -1, 5)).errno == errno.EINVAL


@only_v2
@pytest.mark.parametrize("banner", ["Welcome\n", "abcd", "Last login: today\n"])
def test_what_a_login_shell_prints_never_becomes_content(
    client: Firecrest, emu: Emulator, home: Home, banner: str
) -> None:
    """ "abcd" is good base64, so a download would be three bytes too long."""
    (home[1] / "f").write_bytes(b"line\n" * 100)
    emu.knobs.put("banner", banner)
    typed = TypedClient(client)
    for act in (
        lambda: typed.stat(S, f"{home[0]}/f"),
        lambda: typed.view(S, f"{home[0]}/f", 0, 20),
        lambda: typed.download(S, f"{home[0]}/f", expect=500),
        lambda: typed.download(S, f"{home[0]}/f"),
    ):
        exc = refused(act)
        assert exc.errno in (errno.EIO, errno.EBADMSG)
        assert "start-up files" in str(exc)


def test_head_and_tail(typed: TypedClient, emu: Emulator, home: Home) -> None:
    (home[1] / "t").write_text("".join(f"{n}\n" for n in range(20)))
    path = f"{home[0]}/t"
    assert typed.head(S, path, lines=2) == "0\n1\n"
    assert typed.tail(S, path, lines=2) == "18\n19\n"
    assert typed.head(S, path, size=3) == "0\n1"
    assert typed.tail(S, path, size=3) == "19\n"
    asked(emu)
    assert typed.head(S, path) == typed.tail(S, path) == ""
    assert asked(emu) == []


@pytest.mark.parametrize(
    "name", ["plain", "with space", "tab\there", "back\\slash", "new\nline", "é  x"]
)
def test_checksums_of_any_name(typed: TypedClient, emu: Emulator, home: Home, name: str) -> None:
    (home[1] / name).write_bytes(b"content")
    expected = hashlib.sha256(b"content").hexdigest()
    if refuse_unaddressable(emu, name):
        assert refused(typed.checksum, S, f"{home[0]}/{name}").errno == errno.EINVAL
        return
    assert typed.checksum(S, f"{home[0]}/{name}") == expected


def test_checksum_errors(typed: TypedClient, home: Home) -> None:
    (home[1] / "a dir").mkdir()
    assert isinstance(refused(lambda: typed.checksum(S, f"{home[0]}/a dir")), IsADirectory)
    assert isinstance(refused(lambda: typed.checksum(S, f"{home[0]}/no pe")), NotFound)


def test_a_checksum_in_a_name_is_no_checksum(server: ScriptedServer) -> None:
    message = (
        "Remote process failed with exit status:1 and error message:sha256sum: "
        f"'/home/Invalid output: {'a' * 64} ': No such file or directory"
    )
    server.play(own(404, message))
    assert isinstance(refused(lambda: scripted(server).checksum(S, "/home/x y")), NotFound)


# -- changing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["f", "two  words", "日本.txt", "-dash", "$x`", "tab\t", "b\\n", "%41"]
)
def test_upload(typed: TypedClient, emu: Emulator, home: Home, name: str) -> None:
    data = os.urandom(1000)
    typed.systems()
    asked(emu)
    if refuse_unaddressable(emu, name):
        assert refused(lambda: typed.upload(S, home[0], name, data)).errno == errno.EINVAL
        assert "ops/upload" not in asked(emu)
        return
    typed.upload(S, home[0], name, data, new=True)
    assert asked(emu) == ["ops/upload"]
    assert (home[1] / name).read_bytes() == data
    assert [path.name for path in home[1].iterdir()] == [name]


@pytest.mark.parametrize("name", ['d"q', "new\nline", "cr\r", "a/b", "..", "it's"])
def test_names_that_cannot_travel_in_a_header(
    typed: TypedClient, emu: Emulator, home: Home, name: str
) -> None:
    typed.systems()
    asked(emu)
    assert refused(lambda: typed.upload(S, home[0], name, b"x")).errno == errno.EINVAL
    assert asked(emu) == []


def test_upload_limits(typed: TypedClient, emu: Emulator, home: Home) -> None:
    typed.systems()
    asked(emu)
    most = typed.limits(S).upload
    if emu.api == "v2":
        assert refused(lambda: typed.upload(S, home[0], "f", b"")).errno == errno.EINVAL
    over = b"x" * (most + 1)
    assert isinstance(refused(lambda: typed.upload(S, home[0], "f", over)), TooLarge)
    assert asked(emu) == []
    typed.upload(S, home[0], "f", over[:-1])
    assert (home[1] / "f").stat().st_size == most


def test_upload_writes_in_place(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "f").write_bytes(b"old and longer")
    (local / "f").chmod(0o600)
    os.link(local / "f", local / "g")
    typed.upload(S, path, "f", b"new")
    assert (local / "g").read_bytes() == b"new"
    assert (local / "f").stat().st_mode & 0o777 == 0o600


def test_upload_content_that_looks_like_a_boundary(typed: TypedClient, home: Home) -> None:
    data = b"\r\n--boundary--\r\n--" * 50
    typed.upload(S, home[0], "f", data)
    assert (home[1] / "f").read_bytes() == data


def test_upload_from_a_file(client: Firecrest, home: Home, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    source = tmp_path / "source"
    source.write_bytes(data)
    with source.open("rb") as file:
        client.server().upload(S, home[0], "f", file, limit=5000000)
    assert (home[1] / "f").read_bytes() == data


def test_a_local_file_that_shrinks_while_it_is_sent(server: ScriptedServer) -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size) if self.tell() < 50_000 else b""

    upload = ServerV2(ApiSession(server.url, StaticToken("t"))).upload
    exc = refused(upload, S, "/home/demo", "f", Shrinking(b"x" * 200_000), limit=5242880)
    assert (exc.errno, exc.transient) == (errno.EIO, False)
    assert "shorter" in str(exc)


def test_upload_errors(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path, local = home
    (local / "dir").mkdir()
    (local / "f").touch()
    assert isinstance(refused(lambda: typed.upload(S, f"{path}/nope", "f", b"x")), NotFound)
    assert isinstance(refused(lambda: typed.upload(S, path, "dir", b"x")), IsADirectory)
    assert isinstance(refused(lambda: typed.upload(S, f"{path}/f", "x", b"x")), NotADirectory)
    emu.knobs.put("disk_full", True)
    exc = refused(lambda: typed.upload(S, path, "g", b"x"))
    assert exc.errno == errno.ENOSPC
    assert "retry" in str(exc)
    emu.knobs.put("disk_full", False)
    emu.knobs.put("quota", 1)
    assert refused(lambda: typed.upload(S, path, "g", b"x" * 99)).errno == errno.EDQUOT


@pytest.mark.parametrize("kind", ["lost_answer", "drop", "reset", "late_status"])
def test_an_upload_is_never_repeated(
    typed: TypedClient, emu: Emulator, home: Home, kind: str
) -> None:
    typed.systems()
    asked(emu)
    emu.faults.add(kind, "*/upload", status=504)
    exc = refused(lambda: typed.upload(S, home[0], "f", b"x", new=True))
    assert (exc.transient, exc.ambiguous) == (True, True)
    assert asked(emu) == ["ops/upload"]


def test_mkdir(typed: TypedClient, home: Home) -> None:
    path, local = home
    typed.mkdir(S, f"{path}/new dir/")
    assert (local / "new dir").is_dir()
    assert isinstance(refused(lambda: typed.mkdir(S, f"{path}/new dir")), Exists)
    assert isinstance(refused(lambda: typed.mkdir(S, f"{path}/a/b")), NotFound)
    typed.mkdir(S, f"{path}/a/b", parents=True)
    typed.mkdir(S, f"{path}/a/b", parents=True)
    assert (local / "a" / "b").is_dir()
    (local / "f").touch()
    assert isinstance(refused(lambda: typed.mkdir(S, f"{path}/f", parents=True)), Exists)


@pytest.mark.parametrize("kind", ["lost_answer", "drop", "reset", "late_status"])
def test_mkdir_settles_a_lost_answer(
    typed: TypedClient, emu: Emulator, home: Home, kind: str
) -> None:
    emu.faults.add(kind, "*/mkdir", status=504)
    typed.mkdir(S, f"{home[0]}/d")
    assert (home[1] / "d").is_dir()


def test_mkdir_after_a_lost_answer_over_a_file(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    (home[1] / "d").touch()
    emu.faults.add("drop", "*/mkdir")
    assert isinstance(refused(lambda: typed.mkdir(S, f"{home[0]}/d")), Exists)


def test_remove(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "f").touch()
    (local / "d").mkdir()
    (local / "l").symlink_to("f2")
    os.mkfifo(local / "p")
    typed.remove(S, f"{path}/f", Kind.FILE)
    typed.remove(S, f"{path}/d/", Kind.DIRECTORY)
    typed.remove(S, f"{path}/l", Kind.SYMLINK)
    typed.remove(S, f"{path}/p", Kind.FIFO)
    assert list(local.iterdir()) == []
    assert isinstance(refused(lambda: typed.remove(S, f"{path}/f", Kind.FILE)), NotFound)


def test_remove_never_takes_a_tree_for_a_file(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "d").mkdir()
    (local / "d" / ".hidden").touch()
    assert isinstance(refused(lambda: typed.remove(S, f"{path}/d", Kind.FILE)), IsADirectory)
    assert refused(lambda: typed.remove(S, f"{path}/d", Kind.DIRECTORY)).errno == errno.ENOTEMPTY
    (local / "f").touch()
    assert isinstance(refused(lambda: typed.remove(S, f"{path}/f", Kind.DIRECTORY)), NotADirectory)
    assert refused(lambda: typed.remove(S, f"{path}/f", Kind.SYMLINK)).errno == errno.ESTALE
    assert (local / "d" / ".hidden").exists()
    assert (local / "f").exists()


def test_remove_never_empties_what_a_link_points_to(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "d").mkdir()
    (local / "d" / "precious").touch()
    (local / "l").symlink_to("d")
    assert isinstance(refused(lambda: typed.remove(S, f"{path}/l/", Kind.DIRECTORY)), NotADirectory)
    assert isinstance(refused(lambda: typed.remove_tree(S, f"{path}/l/")), NotADirectory)
    typed.remove(S, f"{path}/l/", Kind.SYMLINK)
    assert (local / "d" / "precious").exists()
    assert not (local / "l").is_symlink()


@pytest.mark.parametrize("path", ["/", "//", "/home", "/home/", "/scratch", "/./home"])
def test_roots_are_never_removed(typed: TypedClient, emu: Emulator, path: str) -> None:
    typed.systems()
    asked(emu)
    for act in (
        lambda: typed.remove_tree(S, path),
        lambda: typed.remove(S, path, Kind.DIRECTORY),
    ):
        assert refused(act).errno == errno.EBUSY
    assert asked(emu) == []


@pytest.mark.parametrize("kind", ["lost_answer", "drop", "reset", "late_status"])
def test_remove_settles_a_lost_answer(
    typed: TypedClient, emu: Emulator, home: Home, kind: str
) -> None:
    (home[1] / "f").touch()
    (home[1] / "d").mkdir()
    emu.faults.add(kind, "*/rm", status=504)
    typed.remove(S, f"{home[0]}/f", Kind.FILE)
    emu.faults.add(kind, "*/rm", status=504)
    typed.remove_tree(S, f"{home[0]}/d")
    assert list(home[1].iterdir()) == []


def test_remove_tree(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "d" / "sub").mkdir(parents=True)
    (local / "d" / "sub" / "f").touch()
    (local / "f").touch()
    assert isinstance(refused(lambda: typed.remove_tree(S, f"{path}/f")), NotADirectory)
    typed.remove_tree(S, f"{path}/d/")
    assert [item.name for item in local.iterdir()] == ["f"]


def test_symlink(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path, local = home
    typed.symlink(S, f"{path}/not there", f"{path}/l")
    assert os.readlink(local / "l") == f"{path}/not there"
    assert isinstance(refused(lambda: typed.symlink(S, f"{path}/x", f"{path}/l")), Exists)
    if emu.api == "v2":
        typed.symlink(S, f"{path}/x", f"{path}/new\nline")
        assert os.readlink(local / "new\nline") == f"{path}/x"


@only_v2
@pytest.mark.parametrize(
    "target", ["rel", "../up", "/etc/passwd", "/homeless/x", "", "/home/../etc"]
)
def test_targets_that_want_the_tar_route(
    typed: TypedClient, emu: Emulator, home: Home, target: str
) -> None:
    typed.systems()
    asked(emu)
    exc = refused(lambda: typed.symlink(S, target, f"{home[0]}/l"))
    assert exc.errno == errno.EINVAL
    assert asked(emu) == []


def test_a_link_never_lands_inside_a_directory(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "d").mkdir()
    (local / "to d").symlink_to("d")
    for name in ("d", "to d"):
        exc = refused(typed.symlink, S, f"{path}/target", f"{path}/{name}")
        assert isinstance(exc, Exists)
        assert list((local / "d").iterdir()) == []
    assert os.readlink(local / "to d") == "d"


@only_v2
def test_a_link_that_landed_inside_a_directory_is_undone(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "d").mkdir()
    exc = refused(typed.symlink, S, f"{path}/target", f"{path}/d", new=True)
    assert isinstance(exc, Exists)
    assert list((local / "d").iterdir()) == []


def test_symlink_settles_a_lost_answer(typed: TypedClient, emu: Emulator, home: Home) -> None:
    emu.faults.add("lost_answer", "*/symlink")
    typed.symlink(S, f"{home[0]}/x", f"{home[0]}/l")
    assert os.readlink(home[1] / "l") == f"{home[0]}/x"
    emu.faults.add("drop", "*/symlink")
    exc = refused(lambda: typed.symlink(S, f"{home[0]}/x", f"{home[0]}/m"))
    assert exc.ambiguous


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755, 0o000, 0o1777])
def test_chmod(typed: TypedClient, home: Home, mode: int) -> None:
    (home[1] / "f").touch()
    typed.chmod(S, f"{home[0]}/f", mode)
    assert (home[1] / "f").stat().st_mode & 0o7777 == mode


def test_chmod_can_clear_a_directorys_set_id_bit(typed: TypedClient, home: Home) -> None:
    (home[1] / "d").mkdir()
    (home[1] / "d").chmod(0o2755)
    typed.chmod(S, f"{home[0]}/d", 0o755)
    assert (home[1] / "d").stat().st_mode & 0o7777 == 0o755


def test_chmod_is_repeated(typed: TypedClient, emu: Emulator, home: Home) -> None:
    (home[1] / "f").touch()
    emu.faults.add("lost_answer", "*/chmod")
    typed.chmod(S, f"{home[0]}/f", 0o600)
    assert asked(emu) == ["ops/chmod", "ops/chmod"]


def test_chown(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path = f"{home[0]}/f"
    (home[1] / "f").touch()
    me = typed.userinfo(S)
    other = next(gid for gid in me.groups if gid != me.gid)
    asked(emu)
    typed.chown(S, path, None, None)
    assert asked(emu) == []
    typed.chown(S, path, None, other)
    assert asked(emu) == ["ops/chown"]
    assert typed.stat(S, path).gid == other
    # An owner alone must not bring its login group along.
    typed.chown(S, path, me.uid, None)
    assert (typed.stat(S, path).uid, typed.stat(S, path).gid) == (me.uid, other)
    exc = refused(lambda: typed.chown(S, path, 1, None))
    assert exc.errno == errno.EPERM


def tar_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 1719828000, 0o640
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_archives_both_ways(typed: TypedClient, home: Home) -> None:
    path, local = home
    typed.upload(S, path, "a.tgz", tar_of(one=b"1", empty=b""))
    (local / "out").mkdir()
    typed.extract(S, f"{path}/a.tgz", f"{path}/out")
    assert (local / "out" / "one").read_bytes() == b"1"
    assert (local / "out" / "empty").stat().st_size == 0
    assert (local / "out" / "one").stat().st_mtime == 1719828000
    typed.compress(S, f"{path}/out/", f"{path}/b.tgz")
    packed = typed.download(S, f"{path}/b.tgz")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert {"out/one", "out/empty"} <= set(tar.getnames())
    if "none" not in typed.features(S).packings:
        exc = refused(typed.compress, S, f"{path}/out", f"{path}/b.tar", compression="none")
        assert exc.errno == errno.EOPNOTSUPP
        return
    typed.compress(S, f"{path}/out", f"{path}/b.tar", compression="none")
    assert typed.download(S, f"{path}/b.tar")[:2] != gzip.compress(b"")[:2]


def test_archives_that_tar_warns_about(typed: TypedClient, home: Home) -> None:
    """v1 answers 400 to whatever says something, also to what has succeeded."""
    path, local = home
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as tar:
        for name, mtime in (("tomorrow", time.time() + 86400.5), ("old", -5), ("no\udcffutf8", 9)):
            info = tarfile.TarInfo(name)
            info.mtime = mtime
            tar.addfile(info, io.BytesIO())
        info = tarfile.TarInfo("/absolute")
        info.pax_headers = {"LIBARCHIVE.creationtime": "1719828000"}
        tar.addfile(info, io.BytesIO())
    typed.upload(S, path, "a.tgz", buffer.getvalue())
    (local / "out").mkdir()
    typed.extract(S, f"{path}/a.tgz", f"{path}/out")
    names = sorted(item.name for item in (local / "out").iterdir())
    assert names == ["absolute", "no\udcffutf8", "old", "tomorrow"]
    os.mknod(local / "out" / "socket", stat.S_IFSOCK | 0o600)
    typed.compress(S, f"{path}/out", f"{path}/b.tgz")
    assert (local / "b.tgz").exists()


@pytest.mark.parametrize(
    ("words", "harmless"),
    [
        (
            "tar: a: time stamp 2026-11-26 01:52:03.416342942 is 3599.438468193 s in the future",
            True,
        ),
        ("tar: Removing leading `/' from member namestar: A lone zero block at 7", True),
        ("tar: Ignoring unknown extended header keyword \u2018hdrcharset\u2019", True),
        ("tar: a: time stamp 2026-11-26 is 1 s in the future\ntar: b: socket ignored\n", True),
        ("", False),
        ("tar: a: Cannot open: Permission denied", False),
        (
            "tar: b: socket ignoredtar: a: Cannot open: Permission denied"
            "tar: Exiting with failure status due to previous errors",
            False,
        ),
        ("tar: a: Exiting with failure status due to previous errors: socket ignored", False),
        ("noise of a shelltar: b: socket ignored", False),
    ],
)
def test_words_of_a_tar_that_succeeded(words: str, harmless: bool) -> None:
    assert only_warned(words) is harmless


@pytest.mark.timeout(20)
def test_many_words_of_tar_are_read_quickly() -> None:
    warnings = "".join(
        f"tar: file-{number}: time stamp 2026-11-26 01:52:03 is 3.5 s in the future"
        for number in range(5000)
    )
    assert only_warned(warnings)
    assert not only_warned(warnings + "tar: x: Cannot open: No such file or directory")


def test_archive_errors(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path, local = home
    (local / "junk").write_bytes(b"junk")
    (local / "out").mkdir()
    exc = refused(lambda: typed.extract(S, f"{path}/junk", f"{path}/out"))
    assert exc.errno == errno.EINVAL
    assert isinstance(refused(lambda: typed.extract(S, f"{path}/no", f"{path}/out")), NotFound)
    asked(emu)
    for act in (
        lambda: typed.compress(S, f"{path}/--checkpoint-action=exec=x", f"{path}/a"),
        lambda: typed.compress(S, f"{path}/out", f"{path}/a", compression="zip"),
        lambda: typed.compress(S, f"{path}/a b/out", f"{path}/a", pattern=".*"),
        lambda: typed.compress(S, f"{path}/out", f"{path}/a", pattern='$(x)"'),
    ):
        assert refused(act).errno in (errno.EINVAL, errno.EOPNOTSUPP)
    assert asked(emu) == []


# -- when things go wrong -----------------------------------------------------------------------


def test_reads_survive_a_bad_connection(typed: TypedClient, emu: Emulator, home: Home) -> None:
    (home[1] / "f").write_bytes(b"x" * 5000)
    typed.systems()
    for kind in ("drop", "reset", "lost_answer", "cut_body"):
        emu.faults.add(kind, "*/download", bytes=100)
        assert typed.download(S, f"{home[0]}/f") == b"x" * 5000


def test_tokens_that_expire_in_the_middle(typed: TypedClient, emu: Emulator, home: Home) -> None:
    typed.list(S, home[0])
    emu.tokens.revoke_all()
    typed.mkdir(S, f"{home[0]}/d")
    assert (home[1] / "d").is_dir()


def test_short_lived_tokens(emu: Emulator, client: Firecrest, home: Home) -> None:
    """The server refuses tokens with less than 30 s left; ours are renewed earlier."""
    emu.knobs.put("token_ttl", 70)
    typed = TypedClient(client)
    for _ in range(3):
        typed.list(S, home[0])
    assert [e for e in emu.requests.clear() if e.status == 401] == []


def test_a_rate_limit(typed: TypedClient, emu: Emulator, home: Home) -> None:
    emu.faults.add("status", "*/mkdir", status=429, headers={"Retry-After": "0.3"}, body="slow")
    start = time.monotonic()
    typed.mkdir(S, f"{home[0]}/d")
    assert 0.25 < time.monotonic() - start < 3
    assert (home[1] / "d").is_dir()


@only_v2
def test_a_slow_cluster(typed: TypedClient, emu: Emulator, home: Home) -> None:
    message = "Command execution timeout limit exceeded."
    body = {"errorType": "error", "message": message, "user": "demo"}
    emu.faults.add("status", "*/ls", status=408, body=body)
    exc = refused(lambda: typed.list(S, home[0]))
    assert (exc.errno, exc.transient) == (errno.ETIMEDOUT, True)


@only_v2
def test_a_system_in_maintenance(typed: TypedClient, emu: Emulator, home: Home) -> None:
    emu.knobs.put("unhealthy", "ssh")
    exc = refused(lambda: typed.list(S, home[0]))
    assert (exc.errno, exc.transient) == (errno.EHOSTDOWN, True)
    assert "maintenance" in str(exc)


def test_many_threads(typed: TypedClient, emu: Emulator, home: Home) -> None:
    def work(number: int) -> bytes:
        name = f"f{number}"
        typed.upload(S, home[0], name, name.encode() * 100)
        assert typed.stat(S, f"{home[0]}/{name}").size == len(name) * 100
        return typed.download(S, f"{home[0]}/{name}")

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(work, range(64)))
    assert results == [f"f{n}".encode() * 100 for n in range(64)]
    assert threading.active_count() < 200
    tokens = [e for e in emu.requests.clear() if e.is_token]
    assert len(tokens) <= 1


# -- jobs ---------------------------------------------------------------------------------------


def wait_for(typed: TypedClient, job_id: str) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            found = typed.job(S, job_id)
        except JobNotFound:
            found = None
        if found is not None and found.ended:
            return found
        time.sleep(0.1)
    raise AssertionError("the job never ended")


SCRIPT = "#!/bin/sh\necho out $MY_VAR\nexit 3\n"


def test_a_job(typed: TypedClient, home: Home) -> None:
    path, local = home
    job_id = typed.submit(
        S,
        script=SCRIPT.encode(),
        working_directory=path,
        name="myjob",
        env={"MY_VAR": "value"},
        standard_output="o.txt",
    )
    assert job_id.isalnum()
    ended = wait_for(typed, job_id)
    assert (ended.state, ended.exit_code, ended.name) == ("FAILED", 3, "myjob")
    assert ended.working_directory == path
    assert (local / "o.txt").read_text() == "out value\n"
    assert job_id in [job.job_id for job in typed.jobs(S)]
    metadata = typed.job_metadata(S, job_id)
    assert metadata["standardOutput"] == f"{path}/o.txt"
    typed.cancel(S, job_id)


def test_a_job_from_a_script_on_the_cluster(typed: TypedClient, home: Home) -> None:
    (home[1] / "s.sh").write_text(SCRIPT)
    job_id = typed.submit(S, script_path=f"{home[0]}/s.sh", working_directory=home[0])
    assert wait_for(typed, job_id).state == "FAILED"


#: Directories whose names one server or the other tells only the start of.
CUT = ["sp ace", "a=b", "two words=x"]


@pytest.mark.parametrize("name", CUT)
def test_paths_of_outputs_are_whole(typed: TypedClient, home: Home, name: str) -> None:
    path, local = f"{home[0]}/{name}", home[1] / name
    local.mkdir()
    job_id = typed.submit(S, script="#!/bin/sh\necho hi\n", working_directory=path)
    wait_for(typed, job_id)
    found = typed.job_metadata(S, job_id)
    assert found["standardOutput"] == found["standardError"] == f"{path}/slurm-{job_id}.out"
    assert typed.job(S, job_id).working_directory == path
    assert typed.download(S, found["standardOutput"]) == b"hi\n"


@pytest.mark.parametrize("name", CUT)
def test_paths_of_a_script_on_the_cluster_are_whole(
    typed: TypedClient, client: Firecrest, home: Home, name: str
) -> None:
    path, local = f"{home[0]}/{name}", home[1] / name
    local.mkdir()
    (local / "run it.sh").write_text("#!/bin/sh\n#SBATCH -e err-%j.txt --output 'o u t'\necho hi\n")
    told = client.submit(S, script_remote_path=f"{path}/run it.sh")
    job_id = told["jobid"]
    assert told["job_file"] == f"{path}/run it.sh"
    assert told["job_file_out"] == f"{path}/o u t"
    assert told["job_file_err"] == f"{path}/err-{job_id}.txt"
    wait_for(typed, job_id)
    assert client.view(S, told["job_file_out"]) == "hi\n"
    # What the queue tells is cut; it doesn't count.
    client.poll_active(S, [job_id])
    typed.jobs(S)
    assert typed.job_metadata(S, job_id)["standardOutput"] == f"{path}/o u t"


def test_a_path_that_nobody_can_tell_is_none(
    typed: TypedClient, client: Firecrest, home: Home
) -> None:
    path, local = f"{home[0]}/sp ace", home[1] / "sp ace"
    local.mkdir()
    script = "#!/bin/sh\n#SBATCH --output=%x-%j\ntrue\n"
    job_id = typed.submit(S, script=script, working_directory=path)
    found = typed.job_metadata(S, job_id)
    assert (found["standardOutput"], found["standardError"]) == (None, None)
    (local / "s.sh").write_text(script)
    told = client.submit(S, script_remote_path=f"{path}/s.sh")
    assert told["job_file_out"] == "Not available"
    wait_for(typed, job_id)


def test_cancel(typed: TypedClient, home: Home) -> None:
    job_id = typed.submit(S, script="#!/bin/sh\nsleep 60\n", working_directory=home[0])
    typed.cancel(S, job_id)
    assert wait_for(typed, job_id).state == "CANCELLED"
    typed.cancel(S, job_id)
    assert isinstance(refused(lambda: typed.cancel(S, "999999")), JobNotFound)
    assert isinstance(refused(lambda: typed.job(S, "999999")), JobNotFound)


@pytest.mark.parametrize("kind", ["lost_answer", "drop", "reset", "late_status"])
def test_a_submission_is_never_repeated(
    typed: TypedClient, emu: Emulator, home: Home, kind: str
) -> None:
    typed.systems()
    asked(emu)
    submission = "jobs/submit" if emu.api == "v2" else "compute/jobs/path"
    emu.faults.add(kind, submission, status=504)
    exc = refused(lambda: typed.submit(S, script="#!/bin/sh\n", working_directory=home[0]))
    assert exc.ambiguous
    before = [] if emu.api == "v2" else ["ops/upload"]
    assert asked(emu) == [*before, submission]


def test_scripts_that_are_none(typed: TypedClient, emu: Emulator, home: Home) -> None:
    typed.systems()
    asked(emu)
    for script in ("", "echo hi\n", b"\xff\xfe", b""):
        exc = refused(typed.submit, S, script=script, working_directory=home[0])
        assert exc.errno == errno.ENOEXEC
    for how in ({}, {"script": "#!x", "script_path": "/home/x"}):
        exc = refused(typed.submit, S, working_directory=home[0], **how)
        assert exc.errno == errno.EINVAL
    assert asked(emu) == []


@pytest.mark.parametrize(
    "how",
    [
        {"env": {"A": "1,B=2"}},
        {"env": {"A B": "1"}},
        {"env": {"A": "it's"}},
        {"name": "two\nlines"},
        {"account": "x'y"},
    ],
)
def test_options_that_would_change_the_command(
    typed: TypedClient, emu: Emulator, home: Home, how: Any
) -> None:
    exc = refused(lambda: typed.submit(S, script="#!/bin/sh\n", working_directory=home[0], **how))
    assert exc.errno == errno.EINVAL
    assert "jobs/submit" not in asked(emu)


@pytest.mark.parametrize("job_id", ["12_3", "12.batch", "-1", "", "a/b", "../x"])
def test_job_ids_that_cannot_be_asked_for(typed: TypedClient, emu: Emulator, job_id: str) -> None:
    if emu.api == "v1" and job_id == "12_3":
        assert isinstance(refused(typed.job, S, job_id), JobNotFound)
        return
    typed.systems()
    asked(emu)
    for act in (lambda: typed.job(S, job_id), lambda: typed.cancel(S, job_id)):
        assert refused(act).errno == errno.EINVAL
    assert asked(emu) == []


def test_a_job_without_id_may_exist(server: ScriptedServer) -> None:
    server.play(reply(201, {"jobId": None}, {"F7T-AppVersion": "2.x.x"}))
    exc = refused(lambda: scripted(server).submit(S, script="#!/x", working_directory="/home/x"))
    assert (exc.errno, exc.ambiguous) == (errno.EIO, True)


def test_stats_count_by_endpoint(typed: TypedClient, emu: Emulator, home: Home) -> None:
    typed.list(S, home[0])
    typed.list(S, home[0])
    name = "/utilities/ls" if emu.api == "v1" else "/filesystem/{system}/ops/ls"
    assert typed.stats()[f"GET {name}"] == 2


# -- what v2 can't do ---------------------------------------------------------------------------


@only_v2
def test_rename_is_refused_before_any_request(typed: TypedClient, emu: Emulator) -> None:
    features = typed.features(S)
    assert (features.version, features.rename, features.empty_upload) == ("2", False, False)
    assert features.forbidden == {"'", "\0"}
    typed.systems()
    emu.requests.clear()
    assert refused(typed.rename, S, "/home/demo/a", "/home/demo/b").errno == errno.EOPNOTSUPP
    assert asked(emu) == []


def test_server_date(typed: TypedClient) -> None:
    assert typed.server_date().endswith(" GMT")


@only_v2
def test_only_the_job_of_one_rename_is_cancelled(
    client: Firecrest, typed: TypedClient, emu: Emulator
) -> None:
    """Nobody has its id: it is known by what its script renames."""
    emu.knobs.put("queue_seconds", 600.0)
    top = "/home/demo/a b"
    others = [("o", "new2"), ("o", "new/x"), ("x/o", "new"), ("o2", "new"), ("new", "o")]
    jobs = []
    for old, new in [("o", "new"), *others]:
        body = {"sourcePath": f"{top}/{old}", "targetPath": f"{top}/{new}"}
        server = client.server()
        assert isinstance(server, ServerV2)
        jobs.append(str(server.transfer(S, "mv", body)["transferJob"]["jobId"]))
    typed.cancel_moves(S, f"{top}/o", f"{top}/new")
    ended = {job.job_id for job in typed.jobs(S) if job.ended}
    assert ended & set(jobs) == {jobs[0]}
    for each in jobs[1:]:
        typed.cancel(S, each)
