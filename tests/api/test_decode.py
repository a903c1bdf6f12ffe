"""JSON to model values: every spelling that 2.x servers used, and odd fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api import decode
from firecrestfs.api.decode import pick
from firecrestfs.model import Kind, Source

MAX = 5 * 1024 * 1024


def test_limits_are_exact() -> None:
    limits = decode.limits_of(MAX)
    assert (limits.upload, limits.download, limits.view) == (5242880, 3932157, 2621439)


@pytest.mark.parametrize("most", [8, 9, 10, 11, 12, 13, 1000, 1001, 1002, 1003, MAX, MAX + 1])
def test_the_download_limit_is_the_largest_that_fits(most: int) -> None:
    n = decode.limits_of(most).download
    assert 4 * -(-n // 3) < most <= 4 * -(-(n + 1) // 3)


def system(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "name": "daint",
        "ssh": {"timeout": {"commandExecution": 7}},
        "scheduler": {"type": "slurm"},
        "servicesHealth": [
            {"serviceType": "ssh", "healthy": True},
            {"serviceType": "filesystem", "healthy": True, "path": "/users"},
            {"serviceType": "filesystem", "healthy": True, "path": "/scratch"},
        ],
        "fileSystems": [
            {"path": "/users/", "dataType": "users", "defaultWorkDir": False},
            {"path": "/scratch", "dataType": "scratch", "defaultWorkDir": True},
        ],
        "dataOperation": {
            "datatransfer_jobs_directives": ["#SBATCH --account={account}"],
            "max_ops_file_size": 1000,
            "data_transfer": {"serviceType": "streamer"},
        },
    }
    return {**raw, **changes}


def test_a_system() -> None:
    found = decode.system_of(system())
    assert found.name == "daint"
    assert [root.path for root in found.roots] == ["/users", "/scratch"]
    assert [root.default_work_dir for root in found.roots] == [False, True]
    assert found.limits.upload == 1000
    assert found.command_seconds == 7.0
    assert found.transfer_method == "streamer"
    assert found.needs_account
    assert found.directives == ("#SBATCH --account={account}",)
    assert found.problem == ""


def test_a_system_in_camel_case() -> None:
    operation = {
        "datatransferJobsDirectives": ["#SBATCH -n1"],
        "maxOpsFileSize": 2000,
        "dataTransfer": {"service_type": "s3"},
    }
    found = decode.system_of(system(dataOperation=operation))
    assert (found.limits.upload, found.transfer_method) == (2000, "s3")
    assert not found.needs_account


def test_a_system_of_an_old_server() -> None:
    raw = system(datatransferJobsDirectives=["#SBATCH -n1"])
    del raw["dataOperation"]
    found = decode.system_of(raw)
    assert (found.limits.upload, found.transfer_method) == (MAX, "s3")
    assert found.directives == ("#SBATCH -n1",)


def test_a_system_without_anything() -> None:
    found = decode.system_of({"name": "bare", "servicesHealth": None, "fileSystems": None})
    assert (found.roots, found.problem, found.limits.upload) == ((), "", MAX)


def test_no_transfer_method() -> None:
    assert decode.system_of(system(dataOperation={"data_transfer": None})).transfer_method == ""


@pytest.mark.parametrize(
    ("health", "problem"),
    [
        ([{"serviceType": "ssh", "healthy": False, "message": "down"}], "down"),
        ([{"serviceType": "scheduler", "healthy": False, "message": "x"}], ""),
        ([{"serviceType": "s3", "healthy": False, "message": "x"}], ""),
        ([{"serviceType": "filesystem", "healthy": False, "message": "gone"}], "gone"),
        (
            [
                {"serviceType": "filesystem", "healthy": False, "message": "gone"},
                {"serviceType": "filesystem", "healthy": True},
            ],
            "",
        ),
        (None, ""),
    ],
)
def test_problems(health: Any, problem: str) -> None:
    found = decode.system_of(system(servicesHealth=health)).problem
    assert problem in found
    assert bool(problem) == bool(found)


def test_a_user() -> None:
    found = decode.user_of(
        {
            "user": {"id": "26191", "name": "jdoe"},
            "group": {"id": "1000", "name": "staff"},
            "groups": [{"id": "2044", "name": "proj1"}],
            "accounts": [{"name": "b", "default": False}, {"name": "a", "default": True}],
        }
    )
    assert (found.name, found.uid, found.gid) == ("jdoe", 26191, 1000)
    assert found.groups == {1000: "staff", 2044: "proj1"}
    assert found.accounts == ("a", "b")


def test_a_user_of_an_old_server() -> None:
    found = decode.user_of({"user": {"id": 5, "name": "x"}, "group": {"id": 6}, "accounts": None})
    assert (found.uid, found.gid, found.accounts) == (5, 6, ())


@pytest.mark.parametrize(
    ("text", "mode", "acl"),
    [
        ("rwxr-xr-x", 0o755, False),
        ("---------", 0, False),
        ("rwsr-xr-x", 0o4755, False),
        ("rwSr--r--", 0o4644, False),
        ("rw-r-Sr--", 0o2644, False),
        ("rwxr-sr-x", 0o2755, False),
        ("rwxrwxrwt", 0o1777, False),
        ("rw-r--r-T", 0o1644, False),
        ("rwxr-x---+", 0o750, True),
        ("rwxr-x---@", 0o750, True),
        ("rwxr-x---.", 0o750, False),
    ],
)
def test_permissions(text: str, mode: int, acl: bool) -> None:
    assert decode.mode_of(text) == (mode, acl)


@pytest.mark.parametrize("text", ["", "rwx", "rwxr-xr-xx-", "?????????", "rwtr-xr-x"])
def test_what_are_no_permissions(text: str) -> None:
    assert decode.mode_of(text) is None


def entry(**changes: Any) -> dict[str, Any]:
    raw = {
        "name": "f",
        "type": "-",
        "linkTarget": None,
        "user": "26191",
        "group": "1000",
        "permissions": "rw-r--r--",
        "lastModified": "2026-11-22T10:02:56",
        "size": "3298534883328",
    }
    return {**raw, **changes}


def test_a_listed_entry() -> None:
    attr = decode.listed_attr(entry(), 7)
    assert attr is not None
    assert (attr.kind, attr.mode, attr.size, attr.mtime_ns) == (Kind.FILE, 0o644, 3298534883328, 7)
    assert (attr.uid, attr.gid, attr.source) == (26191, 1000, Source.LS)
    assert attr.listed == "2026-11-22T10:02:56"
    assert attr.fingerprint.mtime == attr.listed


@pytest.mark.parametrize(
    "changes",
    [{"type": "?"}, {"type": None}, {"permissions": "x"}, {"size": "-1"}, {"size": "many"}],
)
def test_entries_that_make_no_sense(changes: dict[str, Any]) -> None:
    assert decode.listed_attr(entry(**changes), 0) is None


def test_owners_by_name_have_no_number() -> None:
    attr = decode.listed_attr(entry(user="jdoe", group="staff"), 0)
    assert attr is not None
    assert (attr.uid, attr.owner, attr.gid, attr.group) == (-1, "jdoe", -1, "staff")


@pytest.mark.parametrize(
    ("listed", "size", "real"),
    [
        ("plain", 5, "plain"),
        ("new\\nline", 8, "new\nline"),
        ("new\\nline", 9, "new\\nline"),
        ("caf\\303\\251", 5, "café"),
        ("caf\\303\\251", 11, "caf\\303\\251"),
        ("café", 5, "café"),
        ("odd", 99, "odd"),
    ],
)
def test_the_length_of_a_link_tells_its_text(listed: str, size: int, real: str) -> None:
    assert decode.target_of(listed, size) == real


def test_a_stat() -> None:
    attr = decode.stat_attr(
        {
            "mode": 0o104755,
            "ino": 9,
            "dev": 8,
            "nlink": 2,
            "uid": 1,
            "gid": 2,
            "size": 3,
            "atime": 4,
            "mtime": 5,
            "ctime": 6,
        }
    )
    assert (attr.kind, attr.mode, attr.ino, attr.dev, attr.nlink) == (Kind.FILE, 0o4755, 9, 8, 2)
    assert (attr.atime_ns, attr.mtime_ns, attr.ctime_ns) == (4 * 10**9, 5 * 10**9, 6 * 10**9)
    assert attr.source is Source.STAT


@pytest.mark.parametrize("raw", [{}, {"mode": None}, {"mode": "x"}])
def test_what_is_no_stat(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        decode.stat_attr(raw)


def job(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "jobId": "16",
        "name": "hello",
        "status": {"state": "FAILED", "stateReason": "None", "exitCode": 3},
        "time": {"elapsed": 3, "start": 1795342564, "end": 1795342567, "limit": 432000},
        "allocationNodes": 1,
        "nodes": "nid001",
        "partition": "normal",
        "user": "jdoe",
        "workingDirectory": "/scratch/jdoe",
    }
    return {**raw, **changes}


def test_a_job() -> None:
    found = decode.job_of(job())
    assert (found.job_id, found.state, found.exit_code, found.ended) == ("16", "FAILED", 3, True)
    assert (found.start, found.end, found.elapsed, found.limit) == (
        1795342564,
        1795342567,
        3,
        432000,
    )
    assert (found.nodes, found.node_count, found.reason) == ("nid001", 1, "")


@pytest.mark.parametrize(
    ("state", "code", "word", "shown"),
    [
        ("CANCELLED by 1001", 0, "CANCELLED", 0),
        ("CANCELLED+", 0, "CANCELLED", 0),
        (["COMPLETED"], 0, "COMPLETED", 0),
        ({"current": ["RUNNING"]}, 0, "RUNNING", None),
        ("RUNNING", 0, "RUNNING", None),
        ("PENDING", None, "PENDING", None),
        ("Q", 0, "PENDING", None),
        ("R", 0, "RUNNING", None),
        ("F", 0, "COMPLETED", 0),
        ("F", 2, "FAILED", 2),
        ("", None, "UNKNOWN", None),
        (None, None, "UNKNOWN", None),
    ],
)
def test_states(state: Any, code: Any, word: str, shown: int | None) -> None:
    found = decode.job_of(job(status={"state": state, "exitCode": code}))
    assert (found.state, found.exit_code) == (word, shown)


def test_jobs_of_old_servers() -> None:
    found = decode.job_of({"jobId": 12, "status": {"state": "PENDING"}, "time": {}})
    assert (found.job_id, found.start, found.limit) == ("12", None, None)
    assert decode.job_of(job(nodes="None assigned")).nodes == ""


def test_pick_reads_both_spellings() -> None:
    assert pick({"max_part_size": 1}, "maxPartSize") == 1
    assert pick({"maxPartSize": 2}, "maxPartSize") == 2
    assert pick({"maxPartSize": None, "max_part_size": 0}, "maxPartSize") == 0
    assert pick({}, "maxPartSize", 5) == 5
    assert pick(None, "x", 5) == 5


RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings" / "v2"


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings here")
def test_recorded_jobs_and_systems_are_understood() -> None:
    seen = 0
    for name, key, read in (("jobs", "jobs", decode.job_of), ("status", "systems", _named)):
        for step in json.loads((RECORDINGS / f"{name}.json").read_text())["steps"]:
            body = step["response"].get("body")
            metadata = "metadata" in step["request"]["path"]
            if step["response"]["status"] == 200 and isinstance(body, dict) and not metadata:
                for raw in body.get(key) or []:
                    value = read(raw)
                    assert getattr(value, "state", "x") != "UNKNOWN"
                    seen += 1
    assert seen > 10


def _named(raw: dict[str, Any]) -> Any:
    found = decode.system_of(raw)
    assert found.roots
    assert found.limits.upload == MAX
    return found


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings here")
def test_recorded_listings_are_understood() -> None:
    """Every entry of every recorded listing makes sense; placeholders stand for sizes."""
    seen = 0
    for step in json.loads((RECORDINGS / "ls.json").read_text())["steps"]:
        body = step["response"].get("body")
        for raw in (body or {}).get("output") or [] if step["response"]["status"] == 200 else []:
            known = {**raw, "size": raw["size"] if raw["size"].isdigit() else "1"}
            assert decode.listed_attr(known, 0) is not None, raw
            seen += 1
    assert seen > 300
