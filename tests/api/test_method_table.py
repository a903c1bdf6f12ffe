"""pyFirecREST's methods, a row each: the same call, on the same server, by both clients.

On v1 the results must be equal. On v2 they are what pyFirecREST's client for v2 returns, under the
tutorial's names: `FIELDS` is the map.
"""

from __future__ import annotations

import gc
import inspect
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import firecrest
import pytest

import firecrestfs.api as f7t
from firecrestfs.emulator import Emulator

from ..tutorial import wait_until

# Its requests leave sockets to the garbage collector; some of its ways are deprecated by itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

#: v2's fields → the tutorial's.
FIELDS = {
    "list_files": {"linkTarget": "link_target", "lastModified": "last_modified"},
    "nodes": {"name": "NodeName", "features": "ActiveFeatures", "partitions": "Partitions"}
    | {"state": "State"},
    "partitions": {"name": "PartitionName", "partition": "State", "cpus": "TotalCPUs"}
    | {"totalNodes": "TotalNodes"},
}
SETTINGS = {"poll_interval": 0.2, "queue_seconds": 0.05, "status_cache": 0.0, "noise": ""}
SCRIPT = "#!/bin/bash\necho hello\n"
M = "cluster"


def _site(version: str, factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with Emulator(factory.mktemp(version), api=version, settings=SETTINGS) as emulator:
        given = (emulator.client_id, emulator.client_secret, emulator.token_url)
        module = firecrest.v1 if version == "v1" else firecrest.v2
        official = module.Firecrest(emulator.url, firecrest.ClientCredentialsAuth(*given))
        official.polling_sleep_times = [0.02] * 500
        ours = f7t.Firecrest(emulator.url, f7t.ClientCredentialsAuth(*given))
        system = emulator.systems[0]
        yield SimpleNamespace(
            official=official,
            ours=ours,
            emulator=emulator,
            home=system["home"],
            far=Path(system["local_home"]),
            near=factory.mktemp("near"),
        )
        session = getattr(official, "_session", None)
        if session is not None:
            session.close()
        gc.collect()  # while its warnings are ignored


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    yield from _site("v1", tmp_path_factory)


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    yield from _site("v2", tmp_path_factory)


def prepared(site: SimpleNamespace, name: str) -> tuple[str, Path]:
    """Make a directory with a few entries; return its path there and here."""
    there = site.far / name
    # What a first run of the test has left.
    shutil.rmtree(there, ignore_errors=True)
    there.mkdir()
    (there / "f.txt").write_text("".join(f"line {number}\n" for number in range(20)))
    (there / "dir").mkdir()
    (there / "link").symlink_to("f.txt")
    (there / ".hidden").write_text("")
    (there / "job.sh").write_text(SCRIPT)
    return f"{site.home}/{name}", there


Call = Callable[[Any, str], Any]

#: Calls that only look: both clients see the same directory.
LOOKS: dict[str, Call] = {
    "all_services": lambda c, d: c.all_services(),
    "service": lambda c, d: c.service("utilities"),
    "all_systems": lambda c, d: c.all_systems(),
    "system": lambda c, d: c.system(M),
    "parameters": lambda c, d: c.parameters(),
    "filesystems": lambda c, d: c.filesystems(),
    "filesystems of one": lambda c, d: c.filesystems(M),
    "filesystems by keyword": lambda c, d: c.filesystems(system_name=M),
    "list_files": lambda c, d: c.list_files(M, d),
    "list_files, hidden": lambda c, d: c.list_files(M, d, show_hidden=True),
    "list_files of a file": lambda c, d: c.list_files(M, d + "/f.txt"),
    "stat": lambda c, d: c.stat(M, d + "/f.txt"),
    "stat of a link": lambda c, d: c.stat(M, d + "/link"),
    "stat through a link": lambda c, d: c.stat(M, d + "/link", dereference=True),
    "file_type": lambda c, d: c.file_type(M, d + "/f.txt"),
    "checksum": lambda c, d: c.checksum(M, d + "/f.txt"),
    # v1 ends after ten lines, and pyFirecREST with it; ours asks for the whole file.
    "view": lambda c, d: c.view(M, d + "/job.sh"),
    "head": lambda c, d: c.head(M, d + "/f.txt"),
    "head, bytes": lambda c, d: c.head(M, d + "/f.txt", bytes=5),
    "head, lines": lambda c, d: c.head(M, d + "/f.txt", lines=2),
    "head, skip": lambda c, d: c.head(M, d + "/f.txt", lines=3, skip_ending=True),
    "tail": lambda c, d: c.tail(M, d + "/f.txt"),
    "tail, bytes": lambda c, d: c.tail(M, d + "/f.txt", bytes=5),
    "tail, lines": lambda c, d: c.tail(M, d + "/f.txt", lines=2),
    "tail, skip": lambda c, d: c.tail(M, d + "/f.txt", lines=3, skip_beginning=True),
    "whoami": lambda c, d: c.whoami(),
    "whoami there": lambda c, d: c.whoami(M),
    "groups": lambda c, d: c.groups(M),
    "poll, none": lambda c, d: c.poll(M, ["4711"]),
    "poll_active, none": lambda c, d: c.poll_active(M),
    "nodes": lambda c, d: c.nodes(M),
    "nodes, named": lambda c, d: c.nodes(M, ["nid001"]),
    "partitions": lambda c, d: c.partitions(M),
    "partitions, named": lambda c, d: c.partitions(M, ["xfer"]),
    "reservations": lambda c, d: c.reservations(M),
}

#: Calls that change something: each client in a directory of its own.
CHANGES: dict[str, Call] = {
    "mkdir": lambda c, d: c.mkdir(M, d + "/new"),
    "mkdir, parents": lambda c, d: c.mkdir(M, d + "/new/er", p=True),
    "mv": lambda c, d: c.mv(M, d + "/f.txt", d + "/g.txt"),
    "mv into": lambda c, d: c.mv(M, d + "/f.txt", d + "/dir"),
    "copy": lambda c, d: c.copy(M, d + "/f.txt", d + "/g.txt"),
    "copy a tree": lambda c, d: c.copy(M, d + "/dir", d + "/tree"),
    "symlink": lambda c, d: c.symlink(M, d + "/f.txt", d + "/link2"),
    "chmod": lambda c, d: c.chmod(M, d + "/f.txt", "600"),
    "chown": lambda c, d: c.chown(M, d + "/f.txt", owner="demo", group="staff"),
    "compress": lambda c, d: c.compress(M, d + "/f.txt", d + "/f.tgz"),
    "compress, by a job if need be": lambda c, d: c.compress(
        M, d + "/f.txt", d + "/f.tgz", fail_on_timeout=False
    ),
    "extract": lambda c, d: (
        c.compress(M, d + "/f.txt", d + "/f.tgz"),
        c.extract(M, d + "/f.tgz", d + "/dir"),
    ),
    "simple_delete": lambda c, d: c.simple_delete(M, d + "/f.txt"),
    "simple_delete, a tree": lambda c, d: c.simple_delete(M, d + "/dir"),
}


def _tree(there: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(there.rglob("*")):
        # The archives of both clients differ in the time that is in them.
        plain = path.is_file() and path.suffix != ".tgz"
        mode = path.lstat().st_mode
        name = str(path.relative_to(there))
        found[name] = (mode, path.read_bytes() if plain else b"")
    return found


@pytest.fixture(scope="module")
def looked_at(v1: SimpleNamespace) -> str:
    return prepared(v1, "looked-at")[0]


@pytest.mark.parametrize("row", LOOKS)
def test_looks_on_v1(v1: SimpleNamespace, looked_at: str, row: str) -> None:
    want, got = LOOKS[row](v1.official, looked_at), LOOKS[row](v1.ours, looked_at)
    assert got == want


@pytest.mark.parametrize("row", CHANGES)
def test_changes_on_v1(v1: SimpleNamespace, row: str) -> None:
    slug = re.sub(r"\W+", "-", row)
    theirs, there = prepared(v1, f"theirs-{slug}")
    ours, here = prepared(v1, f"ours-{slug}")
    want = CHANGES[row](v1.official, theirs)
    got = CHANGES[row](v1.ours, ours)
    assert repr(got) == repr(want).replace("theirs-", "ours-")
    assert _tree(here) == _tree(there)


@pytest.mark.parametrize("row", [row for row in CHANGES if row != "chown"])
def test_changes_on_v2_are_those_on_v1(v1: SimpleNamespace, v2: SimpleNamespace, row: str) -> None:
    slug = re.sub(r"\W+", "-", row)
    one, there = prepared(v1, f"one-{slug}")
    two, here = prepared(v2, f"two-{slug}")
    want = CHANGES[row](v1.ours, one)
    got = CHANGES[row](v2.ours, two)
    assert repr(got) == repr(want).replace(one, two)
    assert _tree(here) == _tree(there)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_view_is_of_the_whole_file(version: str, request: pytest.FixtureRequest) -> None:
    site = request.getfixturevalue(version)
    d, there = prepared(site, "view")
    assert site.ours.view(M, d + "/f.txt") == (there / "f.txt").read_text()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_limit_among_the_parameters_is_exact(
    version: str, request: pytest.FixtureRequest
) -> None:
    site = request.getfixturevalue(version)
    before = site.emulator.knobs.max_ops_file_size
    site.emulator.knobs.put("max_ops_file_size", 300_001)
    fresh = f7t.Firecrest(site.emulator.url, site.ours.session.tokens)
    try:
        rows = {row["name"]: row["value"] for row in fresh.parameters()["utilities"]}
    finally:
        site.emulator.knobs.put("max_ops_file_size", before)
    assert float(rows["UTILITIES_MAX_FILE_SIZE"]) * 2**20 == 300_001


def test_simple_transfers(v1: SimpleNamespace) -> None:
    d, there = prepared(v1, "simple")
    for name, client in (("a", v1.official), ("b", v1.ours)):
        source, target = v1.near / f"{name}.in", v1.near / f"{name}.out"
        source.write_bytes(b"\0some bytes")
        assert client.simple_upload(M, str(source), d, f"{name}.bin") is None
        assert client.simple_download(M, f"{d}/{name}.bin", str(target)) is None
        assert target.read_bytes() == (there / f"{name}.bin").read_bytes() == b"\0some bytes"


# -- jobs -------------------------------------------------------------------------------------


def _shape(found: Any) -> Any:
    """Return *found* without what differs from job to job."""
    text = re.sub(r"[0-9a-f]{32}", "TASK", repr(found))
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+", "TIME", text)
    text = re.sub(r"'(\d+-)?(\d+:)?\d+:\d+(\.\d+)?'", "'LENGTH'", text)
    return re.sub(r"'jobid': '?\d+'?|slurm-\d+|job-\d+|job \d+", "ID", text)


def _submissions(site: SimpleNamespace, d: str) -> dict[str, Callable[[Any], Any]]:
    local = site.near / "local.sh"
    local.write_text(SCRIPT)
    return {
        "text": lambda c: c.submit(M, script_str=SCRIPT),
        "local": lambda c: c.submit(M, script_local_path=str(local)),
        "remote": lambda c: c.submit(M, script_remote_path=f"{d}/job.sh"),
        "variables": lambda c: c.submit(M, script_str=SCRIPT, env_vars={"A": "b"}),
    }


@pytest.mark.parametrize("row", ["text", "local", "remote", "variables"])
def test_submit_and_poll_on_v1(v1: SimpleNamespace, row: str) -> None:
    d, _ = prepared(v1, f"submit-{row}")
    shapes = []
    for client in (v1.official, v1.ours):
        job = _submissions(v1, d)[row](client)
        one = [job["jobid"]]
        wait_until(lambda one=one: v1.ours.poll(M, one)[0]["state"] == "COMPLETED")  # type: ignore[misc]
        shapes.append((_shape(job), _shape(client.poll(M, one))))
        assert v1.ours.poll(M, one) == v1.official.poll(M, one)
    assert shapes[0] == shapes[1]


def test_pages_and_days_on_v1(v1: SimpleNamespace) -> None:
    for how in (
        {"page_size": 1, "page_number": 0},
        {"start_time": "2020-01-01"},
        {"start_time": "2020-01-01", "end_time": "2020-01-02"},
    ):
        assert v1.ours.poll(M, **how) == v1.official.poll(M, **how)


def test_active_and_cancel_on_v1(v1: SimpleNamespace) -> None:
    words = []
    for client in (v1.official, v1.ours):
        job = client.submit(M, script_str="#!/bin/bash\nsleep 60\n")
        one = [job["jobid"]]
        wait_until(lambda one=one: v1.ours.poll_active(M, one)[0]["state"] == "RUNNING")  # type: ignore[misc]
        want, got = (c.poll_active(M, one) for c in (v1.official, v1.ours))
        assert _shape(got) == _shape(want)
        words.append(_shape(client.cancel(M, job["jobid"])))
    assert words[0] == words[1]


def test_transfers_by_jobs_on_v1(v1: SimpleNamespace) -> None:
    d, there = prepared(v1, "jobs")
    (there / "gone").write_text("")
    calls: list[Callable[[Any, str], Any]] = [
        lambda c, n: c.submit_copy_job(M, d + "/f.txt", f"{d}/{n}1", job_name="mine"),
        lambda c, n: c.submit_rsync_job(M, d + "/f.txt", f"{d}/{n}2", time="00:05:00"),
        lambda c, n: c.submit_compress_job(M, d + "/f.txt", f"{d}/{n}.tgz"),
        lambda c, n: c.submit_move_job(M, f"{d}/{n}1", f"{d}/{n}3"),
        lambda c, n: c.submit_extract_job(M, f"{d}/{n}.tgz", d + "/dir"),
        lambda c, n: c.submit_delete_job(M, f"{d}/{n}2"),
    ]
    for call in calls:
        shapes = []
        for name, client in (("a", v1.official), ("b", v1.ours)):
            job = call(client, name)
            one = [job["jobid"]]
            wait_until(lambda one=one: v1.ours.poll(M, one)[0]["state"] == "COMPLETED")  # type: ignore[misc]
            shapes.append(_shape(job))
        assert shapes[0] == shapes[1]
    assert {"a3", "b3", "a.tgz", "b.tgz"} <= {path.name for path in there.iterdir()}


def test_transfers_by_jobs_on_v2(v2: SimpleNamespace) -> None:
    d, there = prepared(v2, "jobs")
    jobs = [
        v2.ours.submit_copy_job(M, d + "/f.txt", d + "/copy"),
        v2.ours.submit_compress_job(M, d + "/f.txt", d + "/f.tgz"),
        v2.ours.submit_delete_job(M, d + "/job.sh"),
    ]
    wait_until(lambda: (there / "copy").exists() and (there / "f.tgz").exists())
    wait_until(lambda: not (there / "job.sh").exists())
    assert {job["result"] for job in jobs} == {"Job submitted"}
    for act in (
        lambda: v2.ours.submit_rsync_job(M, d + "/f.txt", d + "/x"),
        lambda: v2.ours.submit_move_job(M, d + "/f.txt", d + "/x", time="01:00"),
    ):
        with pytest.raises(f7t.NotImplementedOnAPIversion):
            act()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_one_script(version: str, request: pytest.FixtureRequest) -> None:
    site = request.getfixturevalue(version)
    for client in (site.ours, site.official):
        with pytest.raises(ValueError):
            client.submit(M, script_str=SCRIPT, script_local_path="/x", working_dir="/x") if (
                client is site.ours or version == "v2"
            ) else client.submit(M, script_str=SCRIPT, script_local_path="/x")


# -- errors -----------------------------------------------------------------------------------

ERRORS: dict[str, Call] = {
    "missing": lambda c, d: c.stat(M, d + "/nope"),
    "missing directory": lambda c, d: c.list_files(M, d + "/nope"),
    "forbidden": lambda c, d: c.list_files(M, d + "/closed"),
    "through a file": lambda c, d: c.list_files(M, d + "/f.txt/x"),
    "no such system": lambda c, d: c.list_files("nosuch", d),
    "bad characters": lambda c, d: c.stat(M, d + "/it's"),
    "exists": lambda c, d: c.mkdir(M, d + "/dir"),
    "no such mode": lambda c, d: c.chmod(M, d + "/f.txt", "zzz"),
    "a directory": lambda c, d: c.checksum(M, d + "/dir"),
    "no interpreter": lambda c, d: c.submit(M, script_str="echo\n"),
    "no such job": lambda c, d: c.cancel(M, "4711"),
    "staging nothing": lambda c, d: c.external_download(M, d + "/nope"),
    "landing nowhere": lambda c, d: c.external_upload(M, __file__, d + "/nope/nope"),
}


@pytest.mark.parametrize("row", ERRORS)
def test_errors_on_v1(v1: SimpleNamespace, row: str) -> None:
    d, there = prepared(v1, "errors-" + re.sub(r"\W+", "-", row))
    (there / "closed").mkdir(mode=0)
    with pytest.raises(firecrest.FirecrestException) as theirs:
        ERRORS[row](v1.official, d)
    with pytest.raises(f7t.FirecrestException) as ours:
        ERRORS[row](v1.ours, d)
    name = type(theirs.value).__name__
    assert isinstance(ours.value, getattr(f7t, name)), (name, ours.value)
    assert ours.value.errno
    (there / "closed").chmod(0o700)


# -- on v2 ------------------------------------------------------------------------------------

#: What v2's own client calls differently.
THEIRS: dict[str, Call] = {
    "list_files": lambda c, d: c.list_files(M, d),
    "stat": lambda c, d: c.stat(M, d + "/f.txt"),
    "file_type": lambda c, d: c.file_type(M, d + "/f.txt"),
    "checksum": lambda c, d: c.checksum(M, d + "/f.txt")["checksum"],
    "view": lambda c, d: c.view(M, d + "/job.sh"),
    "head, lines": lambda c, d: c.head(M, d + "/f.txt", num_lines=2)["content"],
    "tail, lines": lambda c, d: c.tail(M, d + "/f.txt", num_lines=2)["content"],
    "whoami there": lambda c, d: c.userinfo(M)["user"]["name"],
    "groups": lambda c, d: {k: c.userinfo(M)[k] for k in ("user", "group", "groups")},
    "nodes": lambda c, d: c.nodes(M),
    "partitions": lambda c, d: c.partitions(M),
    "reservations": lambda c, d: c.reservations(M),
}


@pytest.fixture(scope="module")
def looked_at_v2(v2: SimpleNamespace) -> str:
    return prepared(v2, "looked-at")[0]


@pytest.mark.parametrize("row", THEIRS)
def test_looks_on_v2(v2: SimpleNamespace, looked_at_v2: str, row: str) -> None:
    want, got = THEIRS[row](v2.official, looked_at_v2), LOOKS[row](v2.ours, looked_at_v2)
    if isinstance(want, list):
        names = FIELDS.get(row, {})
        want = [{names.get(key, key): value for key, value in raw.items()} for raw in want]
        for item in want:
            if "link_target" in item:
                item["link_target"] = item["link_target"] or ""
    assert got == want


@pytest.mark.parametrize("row", [row for row in LOOKS if row not in ("service", "poll, none")])
def test_v2_has_the_shapes_of_v1(
    v1: SimpleNamespace, v2: SimpleNamespace, looked_at: str, looked_at_v2: str, row: str
) -> None:
    want, got = LOOKS[row](v1.ours, looked_at), LOOKS[row](v2.ours, looked_at_v2)
    assert type(got) is type(want)
    if isinstance(want, list) and want and row not in ("partitions", "partitions, named"):
        missing = set(want[0]) - set(got[0])
        assert missing == set()


# -- signatures -------------------------------------------------------------------------------

#: Not for users.
LEFT_OUT = {"log"}


def _bare(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a decorator of pyFirecREST's wraps."""
    if "args" not in inspect.signature(method).parameters:
        return method
    cells = [cell.cell_contents for cell in method.__closure__ or ()]
    return _bare(next(found for found in cells if inspect.isfunction(found)))


def _public(cls: type) -> list[str]:
    return [
        name
        for name, _ in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") and name not in LEFT_OUT
    ]


@pytest.mark.parametrize("name", _public(firecrest.v1.Firecrest))
def test_every_method_takes_what_pyfirecrest_takes(name: str) -> None:
    theirs = list(
        inspect.signature(_bare(getattr(firecrest.v1.Firecrest, name))).parameters.values()
    )
    ours = inspect.signature(getattr(f7t.Firecrest, name)).parameters
    keywords = any(part.kind is inspect.Parameter.VAR_KEYWORD for part in ours.values())
    positional = [n for n, part in ours.items() if part.kind is not part.KEYWORD_ONLY]
    for place, parameter in enumerate(theirs):
        if parameter.name in ("self", "machine"):
            continue
        assert parameter.name in ours or keywords
        if parameter.name in positional and not keywords:
            assert positional.index(parameter.name) == place
