"""Staged transfers of API v1: what comes after the recorded path, and beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from firecrestfs.emulator import Emulator

from .conftest import V1Client, wait_for

_HOME = "/home/demo"
_ROUTE = "/storage/xfer-external"


def offer(client: V1Client, target: str, source: str = "upload.bin") -> tuple[str, dict[str, Any]]:
    """Begin an upload; return the task and the form."""
    form = {"targetPath": target, "sourcePath": source}
    task = client.begin("POST", f"{_ROUTE}/upload", data=form)
    return task, client.wait(task, "111")["data"]["msg"]["parameters"]


def post(form: dict[str, Any], content: bytes) -> int:
    files = {"file": ("any name", content)}
    with requests.Session() as http:
        http.trust_env = False
        return http.post(form["url"], data=form["data"], files=files, timeout=10).status_code


def stage(client: V1Client, path: str) -> dict[str, Any]:
    task = client.begin("POST", f"{_ROUTE}/download", data={"sourcePath": path})
    return client.wait(task, "117", "118")


def invalidate(client: V1Client, task: str) -> int:
    return client.call("POST", f"{_ROUTE}/invalidate", headers={"X-Task-Id": task}).status_code


def test_upload_is_copied_by_the_next_sweep(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    v1.knobs.put("poll_interval", 60)
    task, form = offer(v1_client, f"{_HOME}/f")
    assert post(form, b"content") == 204
    assert v1_client.task(task)["status"] == "111"
    v1.knobs.put("poll_interval", 0.05)
    assert v1_client.wait(task, "114")["data"]["target"] == f"{_HOME}/f"
    assert (v1_home / "f").read_bytes() == b"content"
    wait_for(lambda: v1.store.keys() == [])


def test_list_shows_what_the_single_task_hides(v1_client: V1Client) -> None:
    task, _ = offer(v1_client, f"{_HOME}/f")
    secrets = {"cert", "action", "download_url"}
    assert secrets <= set(v1_client.listed(task)["data"]["msg"])
    assert not secrets & set(v1_client.task(task)["data"]["msg"])


def test_failed_copy_is_tried_at_every_sweep(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    task, form = offer(v1_client, f"{_HOME}/f")
    (v1_home / "f").mkdir()
    assert post(form, b"content") == 204
    v1_client.wait(task, "115")
    assert invalidate(v1_client, task) == 201  # stops nothing
    (v1_home / "f").rmdir()
    v1_client.wait(task, "114")
    assert (v1_home / "f").read_bytes() == b"content"


def test_new_body_for_the_same_form_replaces_the_old_one(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    task, form = offer(v1_client, f"{_HOME}/f")
    (v1_home / "f").mkdir()
    post(form, b"old")
    v1_client.wait(task, "115")
    assert post(form, b"new") == 204
    (v1_home / "f").rmdir()
    v1_client.wait(task, "114")
    assert (v1_home / "f").read_bytes() == b"new"


def test_upload_ends_when_its_object_is_gone(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    task, form = offer(v1_client, f"{_HOME}/f")
    (v1_home / "f").mkdir()
    post(form, b"x")
    v1_client.wait(task, "115")
    v1.store.delete(f"demo/{task}/upload.bin")
    words = "File was deleted from staging area. Start a new upload process"
    assert v1_client.wait(task, "400")["data"] == words


def test_form_must_be_posted_as_it_is(v1_client: V1Client) -> None:
    _, form = offer(v1_client, f"{_HOME}/f")
    data = {**form["data"], "key": form["data"]["key"] + "x"}
    assert post({**form, "data": data}, b"x") == 403


def test_target_may_be_a_directory(v1: Emulator, v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "d").mkdir()
    task, form = offer(v1_client, f"{_HOME}/d", "some/where/name.bin")
    post(form, b"x")
    assert v1_client.wait(task, "114")["data"]["target"] == f"{_HOME}/d/name.bin"
    assert os.listdir(v1_home / "d") == ["name.bin"]  # the probe is gone


def test_probe_touches_the_directory(v1_client: V1Client, v1_home: Path) -> None:
    os.utime(v1_home, (0, 0))
    offer(v1_client, f"{_HOME}/f")
    assert v1_home.stat().st_mtime > 0


def test_quota_cuts_the_copy(v1: Emulator, v1_client: V1Client, v1_home: Path) -> None:
    task, form = offer(v1_client, f"{_HOME}/f")
    v1.knobs.put("quota", 10)
    post(form, b"x" * 100)
    v1_client.wait(task, "115")
    assert (v1_home / "f").stat().st_size == 10


@pytest.mark.parametrize("name", ["a b", "a,b", "a$HOME", "a{b,c}"])
def test_names_that_a_shell_changes_can_not_be_staged(
    v1_client: V1Client, v1_home: Path, name: str
) -> None:
    (v1_home / name).write_bytes(b"x")
    task = stage(v1_client, f"{_HOME}/{name}")
    assert task["status"] == "118"
    assert task["data"]["error"].endswith(
        f"Object: {name}. curl: (26) Failed to open/read local data from file/application"
    )
    (v1_home / "alias").symlink_to(name)
    assert stage(v1_client, f"{_HOME}/alias")["status"] == "117"


@pytest.mark.parametrize("name", ["a#b", "a[b]*?", "a~+@:%^=", "ä日", "a{b}", "a$"])
def test_other_names_can(v1_client: V1Client, v1_home: Path, name: str) -> None:
    (v1_home / name).write_bytes(b"content")
    url = stage(v1_client, f"{_HOME}/{name}")["data"]["url"]
    with requests.Session() as http:
        http.trust_env = False
        assert http.get(url, timeout=10).content == b"content"
        part = http.get(url, headers={"Range": "bytes=1-2"}, timeout=10)
        assert (part.status_code, part.content) == (206, b"on")


def test_invalidating_says_so_and_does_nothing(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_bytes(b"x")
    task = stage(v1_client, f"{_HOME}/f")
    assert invalidate(v1_client, task["task_id"]) == 201
    assert v1_client.task(task["task_id"])["status"] == "302"
    assert v1_client.listed(task["task_id"])["status"] == "117"
    with requests.Session() as http:
        http.trust_env = False
        assert http.get(task["data"]["url"], timeout=10).status_code == 200
    unused, _ = offer(v1_client, f"{_HOME}/g")
    assert invalidate(v1_client, unused) == 500


def test_pipes_block_the_check_of_a_download(v1_client: V1Client, v1_home: Path) -> None:
    os.mkfifo(v1_home / "pipe")
    response = v1_client.call("POST", f"{_ROUTE}/download", data={"sourcePath": f"{_HOME}/pipe"})
    assert response.headers["X-Timeout"] == "Command has finished with timeout signal"
