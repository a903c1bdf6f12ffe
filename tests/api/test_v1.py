"""API v1 alone: what v2 can't do, and the traps that v1 sets, one test a trap."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable
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
    ServerV1,
    StaticToken,
    SystemUnknown,
    TooLarge,
    TypedClient,
    Unauthorized,
)
from firecrestfs.api import v1_listing as listing
from firecrestfs.api import v1_shapes as shapes
from firecrestfs.api.decode import job_of
from firecrestfs.emulator import Emulator
from firecrestfs.errors import FirecrestException
from firecrestfs.model import Kind

from .script import Act, ScriptedServer, reply

S = "cluster"
Home = tuple[str, Path]


@pytest.fixture(scope="module")
def version() -> str:
    return "v1"


def refused(act: Callable[..., object], *args: Any, **how: Any) -> FirecrestException:
    with pytest.raises(FirecrestException) as caught:
        act(*args, **how)
    return caught.value


def asked(emu: Emulator) -> list[str]:
    found = [e for e in emu.requests.clear() if not e.is_token and ".firecrest" not in e.query]
    return [e.endpoint for e in found if e.endpoint and not e.endpoint.startswith("status")]


def scripted(server: ScriptedServer, *acts: Act, parameters: Any = None) -> TypedClient:
    server.play(*acts)
    client = Firecrest(server.url, StaticToken("t"), deadline_s=5)
    client._server = ServerV1(client.session, parameters or {"general": []})
    client._server._spaces[S] = True
    return TypedClient(client)


def ok(output: Any) -> Act:
    return reply(200, {"description": "ok", "output": output})


def failed(error: str, headers: dict[str, str] | None = None) -> Act:
    return reply(400, {"description": "Error on x operation", "error": error}, headers)


def paths_of(server: ScriptedServer) -> list[str]:
    return [seen.line.split()[1].partition("?")[0] for seen in server.seen]


# -- what it can do ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "archives"),
    [("1.16.6", True), ("", True), ("1.16.0", True), ("1.15.2", False), ("-", False)],
)
def test_features(emu: Emulator, typed: TypedClient, told: str, archives: bool) -> None:
    emu.knobs.put("server_version", told)
    found = typed.features(S)
    assert found.archives == archives
    assert found.rename and found.empty_upload and found.exact_ranges and found.any_link
    assert not found.patterns
    assert found.version == "1"
    assert set("<>|;\"'&\\()`\n\0") <= found.forbidden


def test_features_are_asked_for_once(emu: Emulator, typed: TypedClient) -> None:
    typed.features(S)
    emu.requests.clear()
    typed.features(S)
    assert emu.requests.clear() == []


@pytest.mark.parametrize("value", ["0.25", 0.25])
def test_limits_are_megabytes_with_a_fraction(value: object) -> None:
    out = {"utilities": [{"name": "UTILITIES_MAX_FILE_SIZE", "value": value}]}
    assert shapes.parameters(out).max_bytes == 262144


@pytest.mark.parametrize("out", [None, [], {}, {"utilities": None}, {"utilities": [{"name": 1}]}])
def test_parameters_that_make_no_sense_become_the_defaults(out: Any) -> None:
    found = shapes.parameters(out)
    assert (found.max_bytes, found.command_seconds) == (5 * 1024 * 1024, 5.0)


def test_an_upload_of_the_limit_passes_whatever_the_path(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    emu.knobs.put("max_ops_file_size", 65536)
    deep = "/".join(["d" * 200] * 17)
    (home[1] / deep).mkdir(parents=True)
    most = typed.limits(S).upload
    typed.upload(S, f"{home[0]}/{deep}", "n" * 200, b"x" * most, new=True)
    assert (home[1] / deep / ("n" * 200)).stat().st_size == most
    assert isinstance(refused(typed.upload, S, home[0], "f", b"x" * (most + 1)), TooLarge)


def test_a_download_of_the_limit_passes(typed: TypedClient, emu: Emulator, home: Home) -> None:
    emu.knobs.put("max_ops_file_size", 65536)
    most = typed.limits(S).download
    for size, fits in ((most, True), (most + 1, False), (65537, False)):
        (home[1] / "f").write_bytes(os.urandom(size))
        if fits:
            assert typed.download(S, f"{home[0]}/f") == (home[1] / "f").read_bytes()
        else:
            assert isinstance(refused(typed.download, S, f"{home[0]}/f"), TooLarge)


# -- systems and users ------------------------------------------------------------------------


def system_acts(filesystems: Act, state: str = "available") -> tuple[Act, ...]:
    systems = [{"system": S, "status": state, "description": "System ready"}]
    return (reply(200, {"out": systems}), filesystems)


def test_file_systems_by_name(server: ScriptedServer) -> None:
    disks = [{"name": "HOME", "path": "/users"}, {"name": "SCRATCH", "path": "/s/x/"}]
    typed = scripted(server, *system_acts(reply(200, {"out": {S: disks}})))
    (found,) = typed.systems()
    assert [(r.path, r.data_type) for r in found.roots] == [
        ("/users", "users"),
        ("/s/x", "scratch"),
    ]
    assert all(seen.headers.get("cache-control") == "no-cache" for seen in server.seen)


def test_file_systems_of_an_older_server(server: ScriptedServer) -> None:
    mounted = [{"system": S, "mounted": ["/home", "/scratch"]}]
    parameters = {"storage": [{"name": "FILESYSTEMS", "value": mounted}]}
    acts = system_acts(reply(404, "<!doctype html>"))
    (found,) = scripted(server, *acts, parameters=parameters).systems()
    assert [(r.path, r.data_type) for r in found.roots] == [
        ("/home", "users"),
        ("/scratch", "scratch"),
    ]


def test_where_no_file_system_is_told_the_whole_tree_is_one(server: ScriptedServer) -> None:
    (found,) = scripted(server, *system_acts(reply(400, {"message": "Invalid"}))).systems()
    assert [root.path for root in found.roots] == ["/"]


def test_a_system_that_is_down(server: ScriptedServer) -> None:
    acts = system_acts(reply(200, {"out": {}}), "not available")
    (found,) = scripted(server, *acts).systems()
    assert "login to the system fails" in found.problem


def test_an_unknown_or_dead_system(typed: TypedClient, server: ScriptedServer) -> None:
    assert isinstance(refused(typed.stat, "nosuch", "/home/x"), SystemUnknown)
    dead = scripted(server, failed("Connection refused", {"X-Error": "Connection refused"}))
    exc = refused(dead.stat, S, "/home/x")
    assert (exc.errno, exc.transient) == (errno.EHOSTDOWN, True)


@pytest.mark.parametrize("acts", [(ok("demo"),), (reply(404, "<!doctype html>"),)])
def test_users_of_older_servers_are_guessed_from_their_home(
    server: ScriptedServer, acts: tuple[Act, ...]
) -> None:
    payload = "eyJwcmVmZXJyZWRfdXNlcm5hbWUiOiAiZGVtbyJ9"
    typed = scripted(server, *acts, ok({"uid": 1001, "gid": 2001, "mode": 16877}))
    typed._client.session.tokens = StaticToken(f"a.{payload}.b")
    found = typed.userinfo(S)
    assert (found.name, found.uid, found.gid) == ("demo", 1001, 2001)


@pytest.mark.parametrize("noise", ["Welcome!\ndemo", "", "no such user: demo"])
def test_a_chatty_login_is_noticed(server: ScriptedServer, noise: str) -> None:
    exc = refused(scripted(server, ok(noise)).userinfo, S)
    assert exc.errno == errno.EBADMSG
    assert "start-up files" in str(exc)


def test_noise_on_stderr_is_named(typed: TypedClient, emu: Emulator, home: Home) -> None:
    emu.knobs.put("noise", "module: command not there")
    exc = refused(typed.stat, S, home[0])
    assert exc.errno == errno.EIO
    assert "module: command not there" in str(exc)


# -- paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", [*'<>|;"&\\()`', "\n", "\t", "\x1f"])
def test_what_cannot_be_addressed_is_refused_before_any_request(
    typed: TypedClient, emu: Emulator, character: str
) -> None:
    typed.systems()
    typed.features(S)
    emu.requests.clear()
    path = f"/home/demo/a{character}b"
    acts: list[Callable[[], object]] = [
        lambda: typed.stat(S, path),
        lambda: typed.list(S, path),
        lambda: typed.mkdir(S, path),
        lambda: typed.download(S, path),
        lambda: typed.view(S, path, 0, 5),
        lambda: typed.head(S, path, lines=1),
        lambda: typed.checksum(S, path),
        lambda: typed.file_type(S, path),
        lambda: typed.chmod(S, path, 0o600),
        lambda: typed.chown(S, path, 1, 1),
        lambda: typed.upload(S, "/home/demo", f"a{character}b", b"x"),
        lambda: typed.upload(S, path, "x", b"x"),
        lambda: typed.move(S, path, "/home/demo/x"),
        lambda: typed.move(S, "/home/demo/x", path),
        lambda: typed.symlink(S, path, "/home/demo/x"),
        lambda: typed.symlink(S, "x", path),
        lambda: typed.compress(S, path, "/home/demo/x"),
        lambda: typed.extract(S, "/home/demo/x", path),
        lambda: typed.remove(S, path, Kind.FILE),
        lambda: typed.submit(S, script_path=path, working_directory="/home/demo"),
    ]
    for act in acts:
        exc = refused(act)
        assert exc.errno == errno.EINVAL
        assert exc.responses == ()
        shown = character if character.isprintable() else f"character {ord(character)}"
        assert shown in str(exc.strerror) or "can't" in str(exc.strerror)
    assert emu.requests.clear() == []


@pytest.mark.parametrize("path", ["~", "~/x", "x", "", "./x", "/home/../etc"])
def test_paths_that_depend_on_where_one_is(typed: TypedClient, emu: Emulator, path: str) -> None:
    typed.systems()
    emu.requests.clear()
    assert refused(typed.stat, S, path).errno == errno.EINVAL
    assert emu.requests.clear() == []


def test_spaces_that_a_login_node_merges_never_hit_the_neighbour(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    path, local = home
    for name in ("a b", "a  b"):
        (local / name).write_text(name)
    for act in (
        lambda: typed.remove(S, f"{path}/a  b", Kind.FILE),
        lambda: typed.remove_tree(S, f"{path}/a  b"),
        lambda: typed.download(S, f"{path}/a  b"),
        lambda: typed.rename(S, f"{path}/a  b", f"{path}/c"),
        lambda: typed.move(S, f"{path}/c", f"{path}/a  b"),
        lambda: typed.upload(S, path, "a  b", b"new", new=True),
        lambda: typed.symlink(S, "x  y", f"{path}/l"),
        lambda: typed.mkdir(S, f"{path}/d  e"),
    ):
        assert refused(act).errno == errno.EINVAL
    assert {item.name: item.read_text() for item in local.iterdir()} == {
        "a b": "a b",
        "a  b": "a  b",
    }
    assert {entry.name for entry in typed.list(S, path)} == {"a b", "a  b"}
    probes = [e for e in emu.requests.clear() if ".firecrest" in e.query]
    assert len(probes) == 1
    assert "  " in typed.features(S).forbidden


def test_spaces_that_arrive_are_fine(typed: TypedClient, emu: Emulator, home: Home) -> None:
    emu.knobs.put("wrapper", False)
    assert "  " not in typed.features(S).forbidden
    typed.upload(S, home[0], "a  b", b"x")
    assert typed.download(S, f"{home[0]}/a  b") == b"x"


# -- listings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("phrase", ["No such file", "cannot open", "no read permission"])
def test_a_name_that_v1_takes_for_an_error(
    typed: TypedClient, emu: Emulator, home: Home, phrase: str
) -> None:
    path, local = home
    (local / phrase).write_bytes(b"123")
    (local / 'quo"te').symlink_to("a -> b")
    (local / "sub").mkdir()
    (local / "sub" / f"{phrase} either").touch()
    (local / "sub" / "empty").mkdir()
    found = {entry.name: entry.attr for entry in typed.list(S, path)}
    assert set(found) == {phrase, 'quo"te', "sub"}
    assert (found[phrase].size, found[phrase].kind) == (3, Kind.FILE)
    assert found['quo"te'].target == "a -> b"
    assert found[phrase].mtime_ns > 0
    tree = {entry.name for entry in typed.list(S, path, recursive=True)}
    assert tree == {phrase, 'quo"te', "sub", f"sub/{phrase} either", "sub/empty"}
    assert refused(typed.remove, S, path + "/sub", Kind.DIRECTORY).errno == errno.ENOTEMPTY
    assert len(typed.checksum(S, f"{path}/{phrase}")) == 64
    typed.remove(S, f"{path}/{phrase}", Kind.FILE)


def test_an_entry_that_vanished_costs_one_more_request(server: ScriptedServer) -> None:
    gone = failed("ls: cannot access '/home/d/x': No such file or directory")
    typed = scripted(server, gone, ok([entry("a")]))
    assert [item.name for item in typed.list(S, "/home/d")] == ["a"]


def entry(name: str, **fields: str) -> dict[str, str]:
    raw = {"group": "1", "user": "1", "last_modified": "2024-07-01T12:00:00", "link_target": ""}
    return {**raw, "name": name, "permissions": "rw-r--r--", "size": "1", "type": "-", **fields}


def test_a_stale_entry_does_not_hide_the_others(server: ScriptedServer) -> None:
    stale = failed("ls: cannot access '/home/d/stale': Stale file handle")
    file = {"mode": 0o100640, "size": 7, "mtime": 1719828000, "uid": 5, "gid": 6}
    typed = scripted(
        server,
        stale,
        stale,
        ok(['"a"', '"gone"', '"stale"', '"q\\"x\\ny"']),
        ok(file),
        failed("stat: cannot statx '/home/d/gone': No such file or directory"),
        failed("stat: cannot statx '/home/d/stale': Transport endpoint is not connected"),
    )
    exc = refused(typed.list, S, "/home/d")
    assert exc.transient  # the file server is away for a moment; nothing is made up
    typed = scripted(
        server,
        stale,
        stale,
        ok(['"a"', '"gone"', '"stale"', '"q\\"x\\ny"']),
        ok(file),
        failed("stat: cannot statx '/home/d/gone': No such file or directory"),
        failed("stat: cannot statx '/home/d/stale': Permission denied"),
    )
    found = {item.name: item.attr for item in typed.list(S, "/home/d")}
    assert set(found) == {"a", "stale", 'q"x\ny'}
    assert (found["a"].size, found["a"].mode, found["a"].uid) == (7, 0o640, 5)
    assert found["a"].mtime_ns == 1719828000 * 10**9
    assert found["stale"].mode == 0


def test_a_directory_that_cannot_be_searched(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "d").mkdir()
    (local / "d" / "f").touch()
    (local / "d").chmod(0o400)
    try:
        assert isinstance(refused(typed.list, S, f"{path}/d"), PermissionRefused)
    finally:
        (local / "d").chmod(0o700)


def test_a_directory_with_too_much_text(server: ScriptedServer) -> None:
    much = failed("Command output exceeded buffer limit (5242880)")
    stat = ok({"mode": 0o100644, "size": 1, "mtime": 1, "uid": 1, "gid": 1})
    typed = scripted(server, much, ok(['"a"', '"b"']), stat)
    assert [item.name for item in typed.list(S, "/home/d")] == ["a", "b"]
    names = [f'"{n}"' for n in range(listing.MOST_STATS + 1)]
    exc = refused(scripted(server, much, ok(names)).list, S, "/home/d")
    assert isinstance(exc, TooLarge)
    assert str(len(names)) in str(exc)


def test_what_recursive_listings_hold_besides_entries(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    path, local = home
    (local / "a").mkdir()
    (local / "b" / "c").mkdir(parents=True)
    (local / "b" / "f").touch()
    for asked_for in (path, path + "/"):
        found = [item.name for item in typed.list(S, asked_for, recursive=True)]
        assert sorted(found) == ["a", "b", "b/c", "b/f"]


def test_devices_are_not_listed_but_count(server: ScriptedServer) -> None:
    line = 'crw-rw-rw- 1 0 0 1, 3 2024-07-01T12:00:00 "null"'
    assert scripted(server, ok([line])).list(S, "/home/d") == []
    directory = ok({"mode": 0o040755, "size": 1, "mtime": 1, "uid": 1, "gid": 1})
    systems = system_acts(reply(200, {"out": {S: [{"name": "HOME", "path": "/home"}]}}))
    typed = scripted(server, *systems, directory, ok(['"null"']))
    assert refused(typed.remove, S, "/home/d", Kind.DIRECTORY).errno == errno.ENOTEMPTY
    words = f'total 0{line}-rw-r--r-- 1 0 0 2 2024-07-01T12:00:00 "cannot open"'
    assert [item["name"] for item in listing.of_words(words) or []] == ["cannot open"]


@pytest.mark.parametrize(
    "words",
    [
        "",
        "ls: cannot access '/d': No such file or directory",
        "total 8Welcome!",
        'total 8-rw-r--r-- 1 u g 2 2024-01-15T13:00:00 "a"and more',
    ],
)
def test_errors_are_not_taken_for_listings(words: str) -> None:
    assert listing.of_words(words) is None
    assert listing.names_of_words(words) is None


def test_entries_with_the_same_spelling_are_told_apart(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    names = {"a\nb", "a\\nb", "plain"}
    for name in names:
        (home[1] / name).touch()
    assert {item.name for item in typed.list(S, home[0])} == names
    assert asked(emu) == ["utilities/ls"] * 2


RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings" / "v1"


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings here")
@pytest.mark.parametrize("area", ["ls", "names"])
def test_recorded_listings(server: ScriptedServer, area: str) -> None:
    text = (RECORDINGS / f"{area}.json").read_text().replace("{DIRSIZE}", "4096")
    text = text.replace("{LEN}", "41").replace("{HOME}", "/home/u")
    played = 0
    for step in json.loads(text)["steps"]:
        query, body = step["request"].get("query") or {}, step["response"].get("body") or {}
        ours = step["request"].get("path") == "/utilities/ls" and "pageSize" not in query
        if not ours or {"notListing", "unsorted", "followLinks"} & set(query):
            continue
        path = query.get("targetPath", "")
        if step["response"]["status"] == 200 and path.startswith("/"):
            wanted = [raw["name"] for raw in body["output"] if isinstance(raw, dict)]
            client = scripted(server, reply(200, body), reply(400, {"error": "x"}))
            got = client._client.server().ls(S, path, recursive="recursive" in query)
            assert [item["name"] for item in got] == [
                name.lstrip("/") if path.endswith("/") else name for name in wanted
            ]
            played += 1
    assert played > 5


# -- attributes and content -------------------------------------------------------------------


def test_modes_of_old_servers(server: ScriptedServer) -> None:
    raw = {"mode": 644, "size": 3, "mtime": 1, "uid": 1, "gid": 1}
    found = scripted(server, ok(raw), ok([entry("/home/f")])).stat(S, "/home/f")
    assert (found.kind, found.mode) == (Kind.FILE, 0o644)
    found = scripted(server, ok({**raw, "mode": 1777}), ok([])).stat(S, "/home/d")
    assert (found.kind, found.mode) == (Kind.DIRECTORY, 0o1777)
    link = entry("/home/l", type="l", link_target="x")
    found = scripted(server, ok({**raw, "mode": 777}), ok([link])).stat(S, "/home/l")
    assert found.kind is Kind.SYMLINK


def test_ranges_of_binary_files(typed: TypedClient, emu: Emulator, home: Home) -> None:
    data = os.urandom(5000)
    (home[1] / "f").write_bytes(data)
    typed.features(S)
    asked(emu)
    for offset, size in ((0, 1), (0, 5000), (1, 4999), (4999, 10), (1234, 56), (4000, 10**9)):
        assert typed.view(S, f"{home[0]}/f", offset, size) == data[offset : offset + size]
    assert asked(emu) == ["utilities/download"] * 6
    assert typed.view(S, f"{home[0]}/f", 5000, 5) == b""
    assert typed.view(S, f"{home[0]}/f", 10**6, 5) == b""
    (home[1] / "empty").touch()
    assert typed.view(S, f"{home[0]}/empty", 0, 5) == b""


def test_ranges_that_somebody_in_between_ignores_or_changes(server: ScriptedServer) -> None:
    typed = scripted(server, reply(200, b"0123456789"))
    assert typed.view(S, "/home/f", 3, 4) == b"3456"
    typed = scripted(server, reply(206, b"0123", {"Content-Range": "bytes 0-3/10"}))
    assert isinstance(refused(typed.view, S, "/home/f", 3, 4), Inexact)


def test_parts_of_large_text(typed: TypedClient, emu: Emulator, home: Home) -> None:
    emu.knobs.put("max_ops_file_size", 4000)
    text = "".join(f"{n} é日😀\n" for n in range(2000)).encode()
    (home[1] / "t").write_bytes(text)
    for offset in (0, 1, 5, 6, 7, 8, 9, 10, 2000, len(text) - 2000, len(text) - 7):
        for size in (1, 2, 3, 50):
            got = typed.view(S, f"{home[0]}/t", offset, size)
            assert got == text[offset : offset + size], (offset, size)
    (home[1] / "b").write_bytes(os.urandom(9000))
    assert isinstance(refused(typed.view, S, f"{home[0]}/b", 8000, 10), Inexact)
    assert isinstance(refused(typed.view, S, f"{home[0]}/b", 100, 900), Inexact)


def test_head_and_tail_of_what_is_no_text(typed: TypedClient, home: Home) -> None:
    data = b"".join(b"\xff%d\n" % n for n in range(20)) + b"last"
    (home[1] / "f").write_bytes(data)
    path = f"{home[0]}/f"
    lines = data.decode("utf-8", "replace").splitlines(keepends=True)
    assert typed.head(S, path, lines=3) == "".join(lines[:3])
    assert typed.tail(S, path, lines=3) == "".join(lines[-3:])
    assert typed.head(S, path, size=4) == data[:4].decode("utf-8", "replace")
    assert typed.tail(S, path, size=9) == data[-9:].decode("utf-8", "replace")
    server = typed._client.server()
    assert server.head(S, path, lines=2, skip=True)["content"] == "".join(lines[:-2])
    assert server.tail(S, path, lines=2, skip=True)["content"] == "".join(lines[1:])
    assert server.tail(S, path, size=5, skip=True)["content"] == data[4:].decode("utf-8", "replace")


def test_an_empty_answer_is_not_proof_of_an_empty_file(typed: TypedClient, home: Home) -> None:
    path, local = home
    os.mkfifo(local / "fifo")
    (local / "empty").touch()
    assert typed.download(S, f"{path}/empty") == b""
    assert typed.view(S, f"{path}/empty", 0, 10) == b""
    for act in (
        lambda: typed.download(S, f"{path}/fifo"),
        lambda: typed.view(S, f"{path}/fifo", 0, 9),
    ):
        exc = refused(act)
        assert (exc.errno, "not a file" in str(exc)) == (errno.EINVAL, True)


def test_nothing_is_written_into_a_fifo(typed: TypedClient, emu: Emulator, home: Home) -> None:
    os.mkfifo(home[1] / "fifo")
    assert refused(typed.upload, S, home[0], "fifo", b"x").errno == errno.EINVAL
    assert "utilities/upload" not in asked(emu)


def test_empty_files_can_be_uploaded(typed: TypedClient, home: Home) -> None:
    (home[1] / "f").write_bytes(b"old")
    typed.upload(S, home[0], "f", b"")
    typed.upload(S, home[0], "new", b"", new=True)
    assert {item.name: item.read_bytes() for item in home[1].iterdir()} == {"f": b"", "new": b""}
    (home[1] / "f").write_bytes(b"old")
    typed.empty(S, f"{home[0]}/f")
    assert (home[1] / "f").read_bytes() == b""


# -- rename -----------------------------------------------------------------------------------


def test_rename(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path, local = home
    (local / "a").write_bytes(b"a")
    inode = (local / "a").stat().st_ino
    typed.features(S)
    typed.systems()
    asked(emu)
    found = typed.rename(S, f"{path}/a", f"{path}/b")
    assert found is not None and found.ino == inode
    assert asked(emu) == ["utilities/stat"] * 2 + ["utilities/rename", "utilities/stat"]
    (local / "a").write_bytes(b"new")
    source = typed.stat(S, f"{path}/a")
    asked(emu)
    assert typed.rename(S, f"{path}/a", f"{path}/b", source=source) is not None
    assert asked(emu) == ["utilities/stat", "utilities/rename", "utilities/stat"]
    assert {item.name: item.read_bytes() for item in local.iterdir()} == {"b": b"new"}


def test_rename_within_one_file_does_nothing(typed: TypedClient, emu: Emulator, home: Home) -> None:
    path, local = home
    (local / "a").touch()
    os.link(local / "a", local / "b")
    assert typed.rename(S, f"{path}/a", f"{path}/a/") is None
    assert typed.rename(S, f"{path}/a", f"{path}/b") is None
    assert "utilities/rename" not in asked(emu)
    assert {item.name for item in local.iterdir()} == {"a", "b"}
    typed.move(S, f"{path}/a", f"{path}/b")  # the server's words for it are no error, either


def test_rename_of_a_link_over_what_it_leads_to_is_refused_as_what_it_is(
    typed: TypedClient, home: Home
) -> None:
    """`mv` takes both for one file, and leaves them."""
    path, local = home
    (local / "target").write_bytes(b"content")
    (local / "link").symlink_to("target")
    exc = refused(typed.rename, S, f"{path}/link", f"{path}/target")
    assert "one file" in str(exc) and "succeeded" not in str(exc)
    assert not exc.ambiguous and not exc.transient
    assert (local / "link").is_symlink()
    assert (local / "target").read_bytes() == b"content"


def test_rename_never_moves_into_a_directory(typed: TypedClient, home: Home) -> None:
    path, local = home
    for name in ("d/x", "full/y"):
        (local / name).parent.mkdir()
        (local / name).touch()
    (local / "empty").mkdir()
    (local / "f").touch()
    assert isinstance(refused(typed.rename, S, f"{path}/f", f"{path}/d"), IsADirectory)
    assert isinstance(refused(typed.rename, S, f"{path}/d", f"{path}/f"), NotADirectory)
    assert refused(typed.rename, S, f"{path}/d", f"{path}/full").errno == errno.ENOTEMPTY
    assert refused(typed.rename, S, f"{path}/d", f"{path}/d/e").errno == errno.EINVAL
    assert isinstance(refused(typed.rename, S, f"{path}/no", f"{path}/x"), NotFound)
    assert isinstance(refused(typed.rename, S, f"{path}/f", f"{path}/no/x"), NotFound)
    assert (local / "d" / "x").exists()
    typed.rename(S, f"{path}/d", f"{path}/empty")
    assert [item.name for item in (local / "empty").iterdir()] == ["x"]


def test_rename_replaces_a_link_to_a_directory(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "v1").mkdir()
    (local / "current").symlink_to("v1")
    (local / "next").symlink_to("v2")
    typed.rename(S, f"{path}/next", f"{path}/current")
    assert os.readlink(local / "current") == "v2"
    assert list((local / "v1").iterdir()) == []


def test_a_rename_that_fails_puts_the_link_back(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    path, local = home
    (local / "v1").mkdir()
    (local / "current").symlink_to("v1")
    (local / "next").symlink_to("v2")
    emu.faults.add("drop", "utilities/rename")
    exc = refused(typed.rename, S, f"{path}/next", f"{path}/current")
    assert not exc.ambiguous
    assert os.readlink(local / "current") == "v1"


def test_rename_between_file_systems(server: ScriptedServer) -> None:
    raw = {"mode": 0o100644, "size": 1, "mtime": 1, "uid": 1, "gid": 1, "ino": 5, "dev": 1}
    missing = failed("stat: cannot statx '/scratch/f': No such file or directory")
    disks = {S: [{"name": "HOME", "path": "/home"}, {"name": "SCRATCH", "path": "/scratch"}]}
    systems = system_acts(reply(200, {"out": disks}))
    parent = ok({**raw, "mode": 0o040755, "dev": 2})
    typed = scripted(server, *systems, ok(raw), missing, parent)
    assert refused(typed.rename, S, "/home/f", "/scratch/f").errno == errno.EXDEV
    assert "/utilities/rename" not in paths_of(server)


@pytest.mark.parametrize("kind", ["lost_answer", "late_status", "drop", "reset"])
def test_rename_settles_a_lost_answer(
    typed: TypedClient, emu: Emulator, home: Home, kind: str
) -> None:
    path, local = home
    (local / "a").write_bytes(b"a")
    (local / "b").write_bytes(b"b")
    emu.faults.add(kind, "utilities/rename", status=502)
    if kind in ("lost_answer", "late_status"):
        assert typed.rename(S, f"{path}/a", f"{path}/b") is not None
        assert {item.name: item.read_bytes() for item in local.iterdir()} == {"b": b"a"}
    else:
        exc = refused(typed.rename, S, f"{path}/a", f"{path}/b")
        assert (exc.ambiguous, exc.transient) == (False, True)
        assert {item.name for item in local.iterdir()} == {"a", "b"}


def test_a_rename_that_is_reported_as_failed_but_happened(server: ScriptedServer) -> None:
    raw = {"mode": 0o100644, "size": 1, "mtime": 1, "uid": 1, "gid": 1, "ino": 5, "dev": 1}
    missing = failed("stat: cannot statx '/home/b': No such file or directory")
    systems = system_acts(reply(200, {"out": {S: [{"name": "HOME", "path": "/home"}]}}))
    noise = failed("bash: /opt/site.sh: No such file or directory")
    typed = scripted(server, *systems, ok(raw), missing, noise, ok(raw))
    found = typed.rename(S, "/home/a", "/home/b")
    assert found is not None and found.ino == 5


def test_roots_are_never_renamed(typed: TypedClient, emu: Emulator) -> None:
    typed.systems()
    typed.features(S)
    asked(emu)
    for old, new in (("/home", "/scratch/x"), ("/scratch/x", "/home"), ("/", "/x")):
        assert refused(typed.rename, S, old, new).errno == errno.EBUSY
    assert asked(emu) == []


# -- other changes ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["rel", "../up", "/etc/passwd", "not there", ".", "ü"])
def test_links_hold_any_text(typed: TypedClient, home: Home, target: str) -> None:
    typed.symlink(S, target, f"{home[0]}/l")
    assert os.readlink(home[1] / "l") == target
    assert isinstance(refused(typed.symlink, S, "x", f"{home[0]}/l"), Exists)


@pytest.mark.parametrize("target", ["rel", "a/b/", "/etc/passwd", "d"])
def test_links_never_land_inside_a_directory(typed: TypedClient, home: Home, target: str) -> None:
    (home[1] / "d").mkdir()
    (home[1] / "l").symlink_to("d")
    for name in ("d", "l"):
        assert isinstance(refused(typed.symlink, S, target, f"{home[0]}/{name}"), Exists)
    assert list((home[1] / "d").iterdir()) == []


def test_mkdir_sends_p_only_where_it_is_meant(server: ScriptedServer) -> None:
    typed = scripted(server, reply(201, {"output": ""}))
    typed.mkdir(S, "/home/d")
    typed.mkdir(S, "/home/d", parents=True)
    assert [b"p=" in seen.body for seen in server.seen] == [False, True]
    assert server.seen[0].headers["x-machine-name"] == S


def test_changes_that_worked_in_spite_of_noise(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    emu.faults.add("late_status", "utilities/mkdir", status=500, body="<!doctype html>500")
    typed.mkdir(S, f"{home[0]}/d")
    emu.faults.add("late_status", "utilities/rm", status=502, body="")
    typed.remove(S, f"{home[0]}/d", Kind.DIRECTORY)
    emu.faults.add("lost_answer", "utilities/symlink")
    typed.symlink(S, "text", f"{home[0]}/l")
    assert [item.name for item in home[1].iterdir()] == ["l"]


def test_archives(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "x").write_bytes(b"no archive")
    (local / "d").mkdir()
    assert (
        refused(typed.compress, S, f"{path}/d", f"{path}/t", pattern="x").errno == errno.EOPNOTSUPP
    )
    exc = refused(typed.extract, S, f"{path}/x", f"{path}/d", compression="xz")
    assert exc.errno == errno.EOPNOTSUPP
    assert refused(typed.compress, S, f"{path}/-x", f"{path}/t").errno == errno.EINVAL


def test_archives_of_a_server_that_has_none(server: ScriptedServer) -> None:
    typed = scripted(server, reply(404, "<!doctype html>"), parameters={"compute": []})
    assert not typed.features(S).archives
    exc = refused(typed.extract, S, "/home/a.tar", "/home/d", compression="none")
    assert exc.errno == errno.ENOSYS


# -- tokens and gateways ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        reply(401, {"description": "JWT token has expired"}),
        reply(401, {"exp": "token expired"}),
        reply(403, {"message": "Invalid signature"}),
    ],
)
def test_a_refused_token_is_renewed_once(server: ScriptedServer, answer: Act) -> None:
    class Tokens:
        count = 0

        def get_access_token(self) -> str:
            self.count += 1
            return f"token{self.count}"

    typed = scripted(server, answer, ok({"mode": 33188, "size": 1, "mtime": 1, "uid": 1, "gid": 1}))
    typed._client.session.tokens = Tokens()
    assert typed.stat(S, "/home/f").size == 1
    typed = scripted(server, answer)
    assert isinstance(refused(typed.stat, S, "/home/f"), Unauthorized)


def test_a_502_is_repeated_for_reads_only(server: ScriptedServer) -> None:
    bad = reply(502, {"message": "An invalid response was received from the upstream server"})
    good = ok({"mode": 33188, "size": 1, "mtime": 1, "uid": 1, "gid": 1})
    assert scripted(server, bad, good).stat(S, "/home/f").size == 1
    server.seen.clear()
    upload = scripted(server, bad, good)._client.server().upload
    exc = refused(upload, S, "/home", "f", b"x", limit=10, new=True)
    assert (exc.ambiguous, len(server.seen)) == (True, 1)


# -- tasks and jobs ---------------------------------------------------------------------------


def task(status: str, data: Any = "", **more: Any) -> Act:
    return reply(200, {"task": {"status": status, "data": data, "description": "x", **more}})


MADE = reply(201, {"success": "Task created", "task_id": "t1", "task_url": "/tasks/t1"})


def test_a_task_that_never_ends(server: ScriptedServer) -> None:
    typed = scripted(server, MADE, task("100", "Queued"))
    typed._client.session.deadline_s = 0.6
    exc = refused(typed._client.server().nodes, S)
    assert (exc.errno, exc.ambiguous) == (errno.ETIMEDOUT, False)
    assert 3 <= len(server.seen) <= 6  # with a growing pause
    typed = scripted(server, MADE, task("100", "Queued"))
    typed._client.session.deadline_s = 0.6
    exc = refused(typed.submit, S, script_path="/home/s.sh", working_directory="/home")
    assert (exc.errno, exc.ambiguous) == (errno.ETIMEDOUT, True)


@pytest.mark.parametrize(
    "answer",
    [
        reply(404, {"error": "Task t1 does not exist"}),
        task("302"),
        task("301"),
    ],
)
def test_a_task_that_is_lost(server: ScriptedServer, answer: Act) -> None:
    exc = refused(
        scripted(server, MADE, answer).submit,
        S,
        script_path="/home/s.sh",
        working_directory="/home",
    )
    assert (exc.errno, exc.ambiguous) == (errno.EIO, True)
    assert not isinstance(exc, FileNotFoundError)


def test_a_task_can_be_interrupted(server: ScriptedServer) -> None:
    server.play(MADE, task("100", "Queued"))
    asked_at: list[float] = []

    def interrupted() -> bool:
        asked_at.append(time.monotonic())
        return len(server.seen) >= 3

    session = ApiSession(server.url, StaticToken("t"), interrupted=interrupted)
    assert refused(ServerV1(session, {}).nodes, S).errno == errno.EINTR


def test_both_kinds_of_jobs_are_polled_together(server: ScriptedServer) -> None:
    second = reply(200, {"task_id": "t2"})
    queued = {"0": {"jobid": "2", "state": "RUNNING", "name": "two", "start_time": "1:00"}}
    ended = [{"jobid": "1", "state": "COMPLETED", "name": "one", "exit_code": "0:0"}]
    tasks = {
        "t1": {"status": "200", "data": queued},
        "t2": {"status": "200", "data": ended},
    }
    half = {**tasks, "t2": {"status": "100", "data": "Queued"}}
    server_acts = (MADE, second, reply(200, {"tasks": half}), reply(200, {"tasks": tasks}))
    typed = scripted(server, *server_acts)
    assert {job.job_id: job.state for job in typed.jobs(S)} == {"1": "COMPLETED", "2": "RUNNING"}
    assert [seen.line.split()[1] for seen in server.seen][2:] == ["/tasks?tasks=t1%2Ct2"] * 2


def test_certificates_in_lists_of_tasks_are_never_logged(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"status": "400", "data": "sbatch: no", "msg": {"cert": "SECRET"}}
    listed = reply(200, {"tasks": {"t1": secret, "t2": secret}})
    typed = scripted(server, MADE, reply(200, {"task_id": "t2"}), listed)
    exc = refused(typed.jobs, S)
    typed = scripted(server, MADE, reply(200, {"task_id": "t2"}), reply(200, {"tasks": ["SECRET"]}))
    other = refused(typed.jobs, S)
    for shown in (repr(exc), repr(exc.responses), repr(other), repr(other.responses), caplog.text):
        assert "SECRET" not in shown


def test_no_jobs_at_all(server: ScriptedServer) -> None:
    tasks = {"t1": {"status": "200", "data": {}}, "t2": {"status": "200", "data": {}}}
    typed = scripted(server, MADE, reply(200, {"task_id": "t2"}), reply(200, {"tasks": tasks}))
    assert typed.jobs(S) == []


def test_the_mixed_up_columns_of_active_jobs() -> None:
    raw = {
        "jobid": "7",
        "name": "n",
        "state": "RUNNING",
        "start_time": "1-02:03:04",
        "time": "2024-07-01T12:00:00",
        "time_left": "10:00",
        "nodes": "2",
        "nodelist": "nid[1-2]",
        "user": "u",
        "partition": "p",
    }
    job = job_of(shapes.job(raw), lambda text: 1719828000 if text == "2024-07-01T12:00:00" else 0)
    assert (job.start, job.elapsed, job.limit) == (1719828000, 93784, 93784 + 600)
    assert (job.nodes, job.node_count, job.end, job.exit_code) == ("nid[1-2]", 2, None, None)
    pending = job_of(
        shapes.job({**raw, "state": "PENDING", "nodelist": "(Resources)", "time": "N/A"})
    )
    assert (pending.nodes, pending.reason, pending.start) == ("", "Resources", None)
    straight = {**raw, "start_time": raw["time"], "time": raw["start_time"]}
    assert job_of(shapes.job(straight), lambda text: 5).elapsed == 93784


def test_ended_jobs_of_accounting() -> None:
    raw = {
        "jobid": "7",
        "state": "CANCELLED by 1001",
        "exit_code": "0:15",
        "cpu_time": "00:01:00",
        "time": "00:01:00",
        "elapsed_time": "00:00:30",
        "start_time": "2024-07-01T12:00:00",
        "termination_time": "2024-07-01T12:00:30",
        "time_left": "2024-07-01T12:00:30",
        "nodelist": "None assigned",
        "nodes": "1",
    }
    job = job_of(shapes.job(raw), lambda text: int(text[-2:]))
    assert (job.state, job.exit_code, job.start, job.end) == ("CANCELLED", 0, 0, 30)
    assert (job.elapsed, job.limit, job.nodes) == (30, None, "")
    unknown = job_of(shapes.job({"jobid": "8", "state": "PENDING", "start_time": "Unknown"}))
    assert (unknown.start, unknown.elapsed, unknown.ended) == (None, None, False)


def wait_for(typed: TypedClient, job_id: str) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        job = typed.job(S, job_id)
        if job.ended:
            return job
        time.sleep(0.05)
    raise AssertionError("the job never ended")


def test_options_become_directives_behind_the_scripts_own(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    path, local = home
    script = "#!/bin/sh\n#SBATCH --job-name=theirs\n# words\n\necho here\npwd\n"
    job_id = typed.submit(
        S,
        script=script,
        working_directory=path,
        name="ours",
        standard_output="out+put.txt",
        env={"A": "b c"},
    )
    assert [item.name for item in local.iterdir() if item.name.startswith(".fcfs")] == []
    job = wait_for(typed, job_id)
    assert (job.name, job.state, job.working_directory) == ("ours", "COMPLETED", path)
    assert (local / "out+put.txt").read_text().splitlines()[0] == "here"
    assert typed.job_metadata(S, job_id)["standardOutput"] == f"{path}/out+put.txt"


def test_a_script_that_runs_elsewhere(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "s.sh").write_text("#!/bin/sh\npwd > where\n")
    (local / "run").mkdir()
    job_id = typed.submit(S, script_path=f"{path}/s.sh", working_directory=f"{path}/run")
    assert wait_for(typed, job_id).state == "COMPLETED"
    assert (local / "run" / "where").exists()
    assert sorted(item.name for item in local.iterdir()) == ["run", "s.sh"]


def test_an_option_that_cannot_be_quoted(typed: TypedClient, emu: Emulator, home: Home) -> None:
    asked(emu)
    exc = refused(typed.submit, S, script="#!/x", working_directory=home[0], name='a"b')
    assert exc.errno == errno.EINVAL
    assert not [name for name in asked(emu) if name.startswith("compute")]


def test_a_refused_script(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "none.sh").write_text("echo\n")
    exc = refused(typed.submit, S, script_path=f"{path}/none.sh", working_directory=path)
    assert (exc.errno, exc.ambiguous) in ((errno.ENOEXEC, False), (errno.ENOEXEC, True))
    exc = refused(typed.submit, S, script_path=f"{path}/no.sh", working_directory=path)
    assert isinstance(exc, NotFound)


def test_whole_paths_cost_nothing(typed: TypedClient, emu: Emulator, home: Home) -> None:
    (home[1] / "s.sh").write_text("#!/bin/sh\ntrue\n")
    asked(emu)
    typed.submit(S, script_path=f"{home[0]}/s.sh", working_directory=home[0])
    assert {name for name in asked(emu) if name.startswith("utilities")} == set()


def test_a_job_that_has_just_started_has_its_name(
    typed: TypedClient, emu: Emulator, home: Home
) -> None:
    """Accounting calls it `allocation` for a moment, even when it has ended by then."""
    emu.knobs.put("half_known", 60)
    job_id = typed.submit(S, script="#!/bin/sh\ntrue\n", working_directory=home[0], name="mine")
    job = wait_for(typed, job_id)
    assert (job.name, job.state, job.exit_code) == ("mine", "COMPLETED", 0)
    assert job.working_directory == home[0]
    other = TypedClient(Firecrest(emu.url, typed._client.session.tokens)).job(S, job_id)
    assert (other.name, other.state, other.exit_code) == ("", "COMPLETED", 0)


def test_the_tutorials_submission_gets_a_directory_of_its_own(
    client: Firecrest, emu: Emulator
) -> None:
    found = client.submit(S, script_str="#!/bin/sh\necho hi\n")
    task_id = found["firecrest_taskid"]
    assert found["result"] == "Job submitted"
    assert f"/firecrest/{task_id}/" in found["job_file"]
    assert str(found["jobid"]).isdigit()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        (job,) = client.poll(S, jobs=[found["jobid"]])
        if job["state"] == "COMPLETED":
            break
        time.sleep(0.05)
    assert job["state"] == "COMPLETED"


def test_jobs_that_are_none(typed: TypedClient) -> None:
    assert isinstance(refused(typed.job, S, "999999"), JobNotFound)
    assert isinstance(refused(typed.job_metadata, S, "999999"), JobNotFound)
    for job_id in ("abc", "1;2", "1,2", "", "/x"):
        assert refused(typed.job, S, job_id).errno == errno.EINVAL


def test_the_machine_in_v2s_words(typed: TypedClient, client: Firecrest) -> None:
    server = typed._client.server()
    assert {"name", "state", "partitions"} <= set(server.nodes(S)[0])
    assert {"name", "partition"} <= set(server.partitions(S)[0])
    assert server.reservations(S) == []
    assert "NodeName" in client.nodes(S)[0]
    assert "PartitionName" in client.partitions(S)[0]


def test_transfer_jobs(typed: TypedClient, home: Home) -> None:
    path, local = home
    (local / "a").write_bytes(b"a")
    server = typed._client.server()
    made = server.transfer(S, "cp", {"sourcePath": f"{path}/a", "targetPath": f"{path}/b"})
    assert wait_for(typed, made["transferJob"]["jobId"]).state == "COMPLETED"
    assert (local / "b").read_bytes() == b"a"
    made = server.transfer_rm(S, f"{path}/b")
    wait_for(typed, made["transferJob"]["jobId"])
    assert not (local / "b").exists()
    assert refused(server.transfer, S, "upload", {"sourcePath": "/x"}).errno == errno.EOPNOTSUPP


# -- the tutorial's client --------------------------------------------------------------------


def test_the_tutorials_client_in_the_same_shapes(client: Firecrest, home: Home) -> None:
    path, local = home
    (local / "f").write_text("one\ntwo\n")
    (system,) = client.all_systems()
    assert (system["system"], system["status"]) == (S, "available")
    assert {disk["name"] for disk in client.filesystems()[S]} == {"HOME", "SCRATCH"}
    assert any(
        item["name"] == "UTILITIES_MAX_FILE_SIZE" for item in client.parameters()["utilities"]
    )
    assert client.whoami(S) == "demo"
    assert set(client.groups(S)) == {"user", "group", "groups"}
    (listed,) = client.list_files(S, path)
    assert (listed["name"], listed["link_target"], listed["size"]) == ("f", "", "8")
    assert client.view(S, f"{path}/f") == "one\ntwo\n"
    assert client.head(S, f"{path}/f", lines=1) == "one\n"
    assert client.tail(S, f"{path}/f", bytes=4) == "two\n"
    assert client.mkdir(S, f"{path}/d", p=True) == f"{path}/d"
    assert client.checksum(S, f"{path}/f")
    assert "text" in client.file_type(S, f"{path}/f")
    client.simple_upload(S, local / "f", f"{path}/d", "g")
    assert (local / "d" / "g").read_text() == "one\ntwo\n"
    client.simple_delete(S, f"{path}/d")
    assert not (local / "d").exists()
