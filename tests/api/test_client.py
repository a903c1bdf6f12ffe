"""The tutorial's client: names, shapes, and which server it talks to."""

from __future__ import annotations

import errno
import inspect
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import firecrest as official
import pytest

import firecrestfs.api as api
from firecrestfs.api import Firecrest, StaticToken, SystemUnknown, TooLarge
from firecrestfs.emulator import Emulator
from firecrestfs.errors import FirecrestException

from .script import ScriptedServer, hang_up, own, reply

S = "cluster"
Home = tuple[str, Path]


def refused(act: Callable[..., object], *args: Any, **how: Any) -> FirecrestException:
    with pytest.raises(FirecrestException) as caught:
        act(*args, **how)
    return caught.value


def scripted(server: ScriptedServer) -> Firecrest:
    return Firecrest(server.url, StaticToken("t"), deadline_s=5)


V2 = {"F7T-AppVersion": "2.x.x"}
SYSTEMS = reply(200, {"systems": []}, V2)


# -- which version ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "liveness",
    [
        reply(200, {"healthcheckRuns": {}, "lastUpdate": 1}, V2),
        reply(200, {"healthcheckRuns": {}, "lastUpdate": 1}),
        own(404, "Not Found"),
        own(401, "Not authenticated"),
    ],
)
def test_a_v2_server(server: ScriptedServer, liveness: Any) -> None:
    server.play(liveness, SYSTEMS)
    assert scripted(server).all_systems() == []
    assert "authorization" not in server.seen[0].headers
    assert len(server.seen) == 2


def test_a_v2_server_behind_a_gateway_that_hides_it(server: ScriptedServer) -> None:
    bare = reply(200, {"systems": []})
    server.play(reply(404, "<html>"), bare, bare)
    assert scripted(server).all_systems() == []


NO_V2 = [
    reply(400, {"message": "Invalid"}),
    reply(401, {"description": "No Auth Header given"}),
    reply(401, {"message": "Unauthorized"}),
    reply(404, "<!doctype html><title>404 Not Found</title>"),
    reply(403, {"message": "no"}),
]


@pytest.mark.parametrize("liveness", NO_V2)
@pytest.mark.parametrize("version", ["1.16.6", "", None])
def test_a_v1_server(server: ScriptedServer, liveness: Any, version: str | None) -> None:
    told = [] if version is None else [{"name": "FIRECREST_VERSION", "value": version}]
    parameters = reply(200, {"description": "Parameters", "out": {"general": told}})
    server.play(liveness, parameters)
    client = scripted(server)
    assert isinstance(client.server(), api.ServerV1)
    assert [seen.line.split()[1] for seen in server.seen] == [
        "/status/liveness/",
        "/status/parameters",
    ]


def test_an_old_v1_server_without_parameters(server: ScriptedServer) -> None:
    systems = reply(200, {"description": "List", "out": []})
    server.play(NO_V2[0], reply(400, {"message": "Invalid"}), systems)
    assert isinstance(scripted(server).server(), api.ServerV1)


def test_a_version_that_was_told_is_not_asked_for(server: ScriptedServer) -> None:
    for version, cls in (("1.16.6", api.ServerV1), ("v1", api.ServerV1), ("2.3", api.ServerV2)):
        client = Firecrest(server.url, StaticToken("t"), api_version=version)
        assert isinstance(client.server(), cls)
    assert server.seen == []
    exc = refused(Firecrest(server.url, StaticToken("t"), api_version="3").server)
    assert exc.errno == errno.EINVAL


def test_no_firecrest_at_all(server: ScriptedServer) -> None:
    server.play(reply(404, "<html>"), reply(200, {"hello": "world"}))
    exc = refused(scripted(server).all_systems)
    assert exc.errno == errno.EPROTO
    assert "FIRECREST_URL" in str(exc)


def test_a_failed_probe_is_repeated_next_time(server: ScriptedServer) -> None:
    server.play(hang_up)
    client = scripted(server)
    assert refused(client.all_systems).transient
    server.play(reply(200, {"healthcheckRuns": {}}, V2), SYSTEMS)
    assert client.all_systems() == []


def test_a_stated_version_is_not_probed(server: ScriptedServer) -> None:
    server.play(SYSTEMS)
    for version in ("2", "v2", "2.5.6"):
        client = Firecrest(server.url, StaticToken("t"), api_version=version)
        client.all_systems()
    assert {seen.line for seen in server.seen} == {"GET /status/systems HTTP/1.1"}


def test_a_url_with_a_prefix(server: ScriptedServer) -> None:
    server.play(SYSTEMS)
    Firecrest(server.url + "/hpc/v2/", StaticToken("t"), api_version="2").all_systems()
    assert server.seen[0].line == "GET /hpc/v2/status/systems HTTP/1.1"


def test_the_official_clients_authorisation_works(emu: Emulator, home: Home) -> None:
    auth = official.ClientCredentialsAuth(emu.client_id, emu.client_secret, emu.token_url)
    client = Firecrest(emu.url, auth)
    assert client.list_files(S, home[0]) == []
    emu.tokens.revoke_all()
    with pytest.raises(api.Unauthorized):
        # Theirs can't be told to drop a token; but it is an error that says what to do.
        client.list_files(S, home[0])


# -- shapes -------------------------------------------------------------------------------------


def test_all_systems(client: Firecrest, emu: Emulator) -> None:
    (found,) = client.all_systems()
    assert (found["system"], found["status"]) == (S, "available")
    assert client.system("CLUSTER")["system"] == S
    assert isinstance(refused(client.system, "nosuch"), SystemUnknown)
    emu.knobs.put("unhealthy", "ssh")
    assert client.system(S)["status"] == "not available"


def test_filesystems(client: Firecrest, emu: Emulator) -> None:
    emu.knobs.put("unhealthy", "/scratch")
    found = client.filesystems()
    assert client.filesystems(S) == found
    status = {disk["path"]: disk["status"] for disk in found[S]}
    assert status == {"/home": "available", "/scratch": "not available"}


def test_parameters(client: Firecrest) -> None:
    found = client.parameters()
    values = {item["name"]: item["value"] for group in found.values() for item in group}
    assert float(values["UTILITIES_MAX_FILE_SIZE"]) == 5
    assert values["FILESYSTEMS"] == [{"system": S, "mounted": ["/home", "/scratch"]}]


def test_who_am_i(client: Firecrest) -> None:
    assert client.whoami() == "demo"
    assert client.whoami(S) == "demo"
    found = client.groups(S)
    assert set(found) == {"user", "group", "groups"}
    assert found["user"]["name"] == "demo"
    assert client.userinfo(S)["accounts"]


def test_nodes_partitions_reservations(client: Firecrest) -> None:
    nodes = client.nodes(S)
    assert {"NodeName", "ActiveFeatures", "Partitions", "State"} <= set(nodes[0])
    assert client.nodes(S, ["nosuch"]) == []
    partitions = client.partitions(S)
    assert {"PartitionName", "State", "TotalNodes"} <= set(partitions[0])
    assert client.partitions(S, [partitions[0]["PartitionName"]]) == [partitions[0]]
    assert client.reservations(S) == []


def test_files(client: Firecrest, home: Home) -> None:
    path, local = home
    (local / ".hidden").touch()
    (local / "link").symlink_to("nowhere")
    assert client.mkdir(S, f"{path}/a/b", p=True) == f"{path}/a/b"
    found = {entry["name"]: entry for entry in client.list_files(S, path)}
    assert set(found) == {"a", "link"}
    keys = {"name", "type", "link_target", "user", "group", "permissions", "last_modified", "size"}
    assert set(found["a"]) == keys
    assert found["a"]["link_target"] == ""
    assert found["link"]["link_target"] == "nowhere"
    assert len(client.list_files(S, path, show_hidden=True)) == 3
    assert "a/b" in [entry["name"] for entry in client.list_files(S, path, recursive=True)]
    assert client.stat(S, f"{path}/link")["size"] == 7
    client.simple_delete(S, f"{path}/a")
    assert not (local / "a").exists()


def test_up_and_down(client: Firecrest, home: Home, tmp_path: Path) -> None:
    path, local = home
    source, target = tmp_path / "source.txt", tmp_path / "target.txt"
    source.write_bytes(b"one\ntwo\n")
    client.simple_upload(S, source, path)
    client.simple_upload(S, str(source), path, "second")
    client.simple_upload(S, io.BytesIO(b"three"), path, "third")
    with source.open("rb") as stream:
        client.simple_upload(S, stream, f"{path}/")
    assert sorted(item.name for item in local.iterdir()) == ["second", "source.txt", "third"]
    client.simple_download(S, f"{path}/second", target)
    assert target.read_bytes() == b"one\ntwo\n"
    buffer = io.BytesIO()
    client.simple_download(S, f"{path}/third", buffer)
    assert buffer.getvalue() == b"three"


def test_too_large_for_simple(client: Firecrest, emu: Emulator, home: Home) -> None:
    emu.knobs.put("max_ops_file_size", 1000)
    exc = refused(client.simple_upload, S, io.BytesIO(b"x" * 1001), home[0], "f")
    assert isinstance(exc, TooLarge)


def test_a_download_that_fails_leaves_no_file(
    client: Firecrest, home: Home, tmp_path: Path
) -> None:
    refused(client.simple_download, S, f"{home[0]}/nope", tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_text(client: Firecrest, home: Home) -> None:
    path, local = home
    (local / "t").write_text("".join(f"{n}\n" for n in range(20)))
    assert client.head(S, f"{path}/t") == "".join(f"{n}\n" for n in range(10))
    assert client.head(S, f"{path}/t", lines=1) == "0\n"
    assert client.head(S, f"{path}/t", bytes=1) == "0"
    assert client.tail(S, f"{path}/t", lines=1) == "19\n"
    assert client.head(S, f"{path}/t", lines=19, skip_ending=True) == "0\n"
    assert client.tail(S, f"{path}/t", lines=20, skip_beginning=True) == "19\n"
    assert client.view(S, f"{path}/t") == (local / "t").read_text()
    assert refused(client.head, S, f"{path}/t", bytes=1, lines=1).errno == errno.EINVAL
    assert "text" in client.file_type(S, f"{path}/t")
    assert len(client.checksum(S, f"{path}/t")) == 64


def test_modes_and_links(client: Firecrest, home: Home) -> None:
    path, local = home
    (local / "f").touch()
    client.chmod(S, f"{path}/f", "600")
    assert (local / "f").stat().st_mode & 0o777 == 0o600
    client.chown(S, f"{path}/f", owner="demo")
    client.chown(S, f"{path}/f", group="proj1")
    client.chown(S, f"{path}/f", owner="demo")
    assert {entry["group"] for entry in client.list_files(S, path)} == {"proj1"}
    assert client.symlink(S, f"{path}/f", f"{path}/l") == f"{path}/f"
    assert (local / "l").is_symlink()


@pytest.mark.parametrize(
    ("name", "extension"), [("a.tar.gz", "auto"), ("a.tgz", "auto"), ("a.bin", ".tgz")]
)
def test_archives(client: Firecrest, home: Home, name: str, extension: str) -> None:
    path, local = home
    (local / "d").mkdir()
    (local / "d" / "f").write_text("x")
    (local / "out").mkdir()
    assert client.compress(S, f"{path}/d", f"{path}/{name}") == f"{path}/{name}"
    assert client.extract(S, f"{path}/{name}", f"{path}/out", extension) == f"{path}/out"
    assert (local / "out" / "d" / "f").read_text() == "x"


def test_an_archive_of_unknown_kind(client: Firecrest, home: Home) -> None:
    exc = refused(client.extract, S, f"{home[0]}/a.zip", home[0])
    assert exc.errno == errno.EINVAL


# -- jobs ---------------------------------------------------------------------------------------


def test_jobs(client: Firecrest, home: Home, tmp_path: Path) -> None:
    path, local = home
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n#SBATCH --job-name=tutorial\necho $X\n")
    (local / "there.sh").write_text(script.read_text())
    results = [
        client.submit(S, script_local_path=script, working_dir=path, env_vars={"X": "1"}),
        client.submit(S, script_str=script.read_text(), working_dir=path),
        client.submit(S, script_remote_path=f"{path}/there.sh"),
        client.submit(S, script, working_dir=path),
        client.submit(S, f"{path}/there.sh", local_file=False),
    ]
    ids = [result["jobid"] for result in results]
    assert len(set(ids)) == 5
    assert all(result["result"] == "Job submitted" for result in results)
    found = client.poll(S, jobs=ids)
    assert {job["jobid"] for job in found} == set(ids)
    keys = {"jobid", "name", "user", "state", "partition", "nodelist", "nodes", "exit_code"}
    assert keys <= set(found[0])
    every = [job["jobid"] for job in client.poll(S)]
    assert [job["jobid"] for job in client.poll(S, page_size=2, page_number=1)] == every[2:4]
    assert client.poll(S, jobs=ids, start_time="2100-01-01") == []
    assert client.poll(S, jobs=ids, end_time="2000-01-01") == []


def test_active_jobs(client: Firecrest, home: Home) -> None:
    script = "#!/bin/sh\nsleep 60\n"
    job_id = client.submit(S, script_str=script, working_dir=home[0])["jobid"]
    assert job_id in [job["jobid"] for job in client.poll_active(S)]
    assert job_id in client.cancel(S, int(job_id))
    end = time.monotonic() + 20
    while client.poll_active(S, [job_id]) and time.monotonic() < end:
        time.sleep(0.1)
    assert client.poll_active(S, [job_id]) == []
    assert client.poll(S, [job_id])[0]["state"] == "CANCELLED"


def test_one_source_of_a_script(client: Firecrest, home: Home) -> None:
    with pytest.raises(ValueError, match="one"):
        client.submit(S)
    with pytest.raises(ValueError, match="one"):
        client.submit(S, script_str="#!", script_remote_path="/x")


def test_a_script_on_this_machine_needs_a_place_to_run(client: Firecrest) -> None:
    """Without one it runs below the default work directory, as the server's own jobs do."""
    result = client.submit(S, script_str="#!/bin/sh\ntrue\n")
    (job,) = client.poll(S, jobs=[result["jobid"]])
    assert job["jobid"] == result["jobid"]
    assert client.server().job(S, result["jobid"])[0]["workingDirectory"] == "/scratch/demo"


# -- the public surface -------------------------------------------------------------------------


def test_public_names() -> None:
    for name in api.__all__:
        assert getattr(api, name) is not None
    assert sorted(api.__all__) == list(api.__all__)


TUTORIAL = """all_systems system filesystems parameters whoami groups list_files stat mkdir
symlink chmod chown compress extract file_type checksum view head tail simple_download
simple_upload simple_delete submit poll poll_active cancel nodes partitions reservations"""


@pytest.mark.parametrize("name", TUTORIAL.split())
def test_methods_take_what_the_tutorials_do(name: str) -> None:
    """Every parameter of the official v1 client exists here under its name and in its place."""
    theirs = list(inspect.signature(getattr(official.v1.Firecrest, name)).parameters)
    ours = list(inspect.signature(getattr(Firecrest, name)).parameters)
    renamed = {"machine": "system_name"}
    expected = [renamed.get(parameter, parameter) for parameter in theirs]
    if expected == ["args", "kwargs"]:  # hidden behind their decorator
        expected = ["self", "system_name"]
    assert [parameter for parameter in ours if parameter in expected] == expected


def test_everything_public_is_documented() -> None:
    for name in api.__all__:
        member = getattr(api, name)
        assert inspect.getdoc(member), name
        for method, value in vars(member).items():
            if not method.startswith("_") and callable(value):
                assert inspect.getdoc(value), f"{name}.{method}"
