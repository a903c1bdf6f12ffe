"""The object store: what breaks on the way, and that its links, like tokens, show up nowhere."""

from __future__ import annotations

import errno
import io
import logging
import shutil
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import firecrestfs.api as f7t
from firecrestfs.api.objects import ObjectStore
from firecrestfs.emulator import Emulator

from ..tutorial import wait_until
from .script import ScriptedServer, cut, hang_up, reply

SECRET = "X-Amz-Credential=K&X-Amz-Signature=5ecret"
M = "cluster"


@pytest.fixture(autouse=True)
def impatient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firecrestfs.api.objects._PAUSE", 0.01)


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    made = ObjectStore()
    yield made
    made.drop_connections()


def made(directory: Path, mode: int = 0o755) -> None:
    """Make *directory*, empty also where a first run of the test has left it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode)


def link(server: ScriptedServer) -> str:
    return f"{server.url}/me/object?{SECRET}"


def xml(code: str) -> bytes:
    text = f"<Code>{code}</Code><Message>why</Message><SignatureProvided>5ecret</SignatureProvided>"
    return f"<?xml version='1.0'?>\n<Error>{text}</Error>".encode()


def refused(act: Callable[[], Any]) -> f7t.FirecrestException:
    """Return how *act* fails, after a look for the link in all that anybody may see of it."""
    with pytest.raises(f7t.FirecrestException) as caught:
        act()
    exc = caught.value
    assert exc.errno
    shown = "".join(traceback.format_exception(exc)) + str(exc) + repr(exc) + repr(exc.responses)
    assert "5ecret" not in shown
    chain, part = [], exc.__context__
    while part is not None:
        chain.append(repr(part))
        part = part.__context__
    assert "5ecret" not in "".join(chain)
    return exc


# -- reading ----------------------------------------------------------------------------------


def test_a_broken_download_goes_on(server: ScriptedServer, store: ObjectStore) -> None:
    rest = {"Content-Range": "bytes 4-9/10"}
    server.play(cut(10, b"0123"), reply(206, b"456789", rest))
    sink, told = io.BytesIO(), []
    assert store.fetch(link(server), sink, progress=lambda *now: told.append(now)) == 10
    assert sink.getvalue() == b"0123456789"
    assert [seen.headers.get("range") for seen in server.seen] == [None, "bytes=4-"]
    assert told[-1] == (10, 10)
    assert all("authorization" not in seen.headers for seen in server.seen)


def test_an_object_that_changes_midway(server: ScriptedServer, store: ObjectStore) -> None:
    other = {"Content-Range": "bytes 4-9/10", "ETag": '"other"'}
    server.play(cut(10, b"0123"), reply(206, b"456789", other))
    assert refused(lambda: store.fetch(link(server), io.BytesIO())).errno == errno.ESTALE


@pytest.mark.parametrize(
    ("status", "code", "number"),
    [
        (403, "AccessDenied", errno.EACCES),
        (403, "SignatureDoesNotMatch", errno.EACCES),
        (404, "NoSuchKey", errno.ENOENT),
        (400, "InvalidArgument", errno.EIO),
        (301, "", errno.EIO),
    ],
)
def test_refusals(
    server: ScriptedServer, store: ObjectStore, status: int, code: str, number: int
) -> None:
    server.play(reply(status, xml(code)))
    exc = refused(lambda: store.fetch(link(server), io.BytesIO()))
    assert (exc.errno, exc.responses[-1].status_code) == (number, status)
    assert len(server.seen) == 1


def test_a_busy_store_is_asked_again(server: ScriptedServer, store: ObjectStore) -> None:
    server.play(reply(503, xml("SlowDown")), reply(500, xml("InternalError")), reply(200, b"x"))
    assert store.fetch(link(server), io.BytesIO()) == 1
    server.play(reply(503, xml("SlowDown")))
    assert refused(lambda: store.fetch(link(server), io.BytesIO())).transient


def test_nobody_there(store: ObjectStore) -> None:
    url = f"http://127.0.0.1:9/me/object?{SECRET}"
    assert refused(lambda: store.fetch(url, io.BytesIO())).errno == errno.EHOSTUNREACH


def test_limits(server: ScriptedServer) -> None:
    server.play(reply(200, b"x"))
    store = ObjectStore(interrupted=lambda: True)
    assert refused(lambda: store.fetch(link(server), io.BytesIO())).errno == errno.EINTR
    for url in (f"http://example.org/o?{SECRET}", "ftp://x/", ""):
        assert refused(lambda url=url: store.size(url)).errno in (errno.EPROTO, errno.EBADMSG)  # type: ignore[misc]


def test_sizes(server: ScriptedServer, store: ObjectStore) -> None:
    server.play(reply(206, b"x", {"Content-Range": "bytes 0-0/5000"}), reply(416, xml("Invalid")))
    assert store.size(link(server)) == 5000
    assert store.size(link(server)) == 0


# -- writing ----------------------------------------------------------------------------------


def test_parts_are_repeated(server: ScriptedServer, store: ObjectStore) -> None:
    good = reply(200, b"", {"ETag": '"e"'})
    server.play(hang_up, reply(500, xml("InternalError")), good)
    told: list[tuple[int, int]] = []
    urls = [f"{link(server)}&partNumber={number}" for number in (1, 2, 3)]
    etags = store.send_parts(
        urls, io.BytesIO(b"0123456789"), 10, 4, progress=lambda *now: told.append(now)
    )
    assert etags == ['"e"'] * 3
    assert told[-1] == (10, 10)
    sent = {seen.line.split()[1][-1]: seen.body for seen in server.seen}
    assert sent == {"1": b"0123", "2": b"4567", "3": b"89"}


def test_a_file_that_shrinks(server: ScriptedServer, store: ObjectStore) -> None:
    server.play(reply(200, b"", {"ETag": '"e"'}))
    exc = refused(lambda: store.send_parts([link(server)], io.BytesIO(b"short"), 10, 10))
    assert exc.errno == errno.EIO


def test_a_success_with_an_error_in_it(server: ScriptedServer, store: ObjectStore) -> None:
    server.play(reply(200, xml("EntityTooSmall")))
    exc = refused(lambda: store.complete(link(server), ['"e"']))
    assert (exc.errno, exc.responses[-1].status_code) == (errno.EIO, 200)


def test_a_lost_answer_to_the_last_step(server: ScriptedServer, store: ObjectStore) -> None:
    server.play(hang_up, reply(404, xml("NoSuchUpload")))
    store.complete(link(server), ['"e"'])
    server.play(reply(404, xml("NoSuchUpload")))
    assert refused(lambda: store.complete(link(server), ['"e"'])).errno == errno.ESTALE


def test_nothing_is_logged(
    server: ScriptedServer, store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.play(reply(200, b"", {"ETag": '"e"'}))
    store.fetch(link(server), io.BytesIO())
    store.put(link(server), io.BytesIO(b"x"), 1)
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "object store" in text
    assert "5ecret" not in text


# -- whole transfers that fail ----------------------------------------------------------------


@pytest.fixture(scope="module", params=["v1", "v2"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    settings = {"poll_interval": 0.2, "queue_seconds": 0.05, "max_part_size": 5 << 20}
    root = tmp_path_factory.mktemp("site")
    with Emulator(root, api=request.param, settings=settings) as emulator:
        auth = f7t.ClientCredentialsAuth(
            emulator.client_id, emulator.client_secret, emulator.token_url
        )
        system = emulator.systems[0]
        yield SimpleNamespace(
            version=request.param,
            client=f7t.Firecrest(emulator.url, auth),
            home=system["home"],
            far=Path(system["local_home"]),
            emulator=emulator,
        )


def test_memory_is_bounded(site: SimpleNamespace, tmp_path: Path) -> None:
    size = 64 << 20
    with open(tmp_path / "large", "wb") as file:
        file.truncate(size)
    upload = site.client.external_upload(M, tmp_path / "large", f"{site.home}/large")
    assert upload.object_storage_data
    tracemalloc.start()
    try:
        upload.finish_upload(timeout=60)
        upload.wait(timeout=60)
        site.client.external_download(M, f"{site.home}/large").finish_download(tmp_path / "back")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "back").stat().st_size == (site.far / "large").stat().st_size == size
    assert peak < size / 2  # the emulator's share included


def test_what_cannot_be_staged(site: SimpleNamespace) -> None:
    for name, kind in (("nope", FileNotFoundError), ("", IsADirectoryError)):
        with pytest.raises(kind):
            site.client.external_download(M, f"{site.home}/{name}".rstrip("/"))
    names = ["a b"] if site.version == "v2" else ["a b", "a,b", "$HOME", "a{b,c}"]
    for name in names:
        (site.far / name).write_text("text")
        exc = refused(lambda name=name: site.client.external_download(M, f"{site.home}/{name}"))  # type: ignore[misc]
        assert exc.errno == errno.EINVAL
        assert "link to it" in str(exc)
        # As the words say: the source is followed, its name doesn't matter.
        site.client.symlink(M, f"{site.home}/{name}", f"{site.home}/alias")
        sink = io.BytesIO()
        site.client.external_download(M, f"{site.home}/alias").finish_download(sink, timeout=20)
        assert sink.getvalue() == b"text"
        site.client.simple_delete(M, f"{site.home}/alias")


@pytest.mark.parametrize("name", ["plain", "[a]", "a*", "q?", "a#b", "~x", "a%20b", "wörd", "a{b"])
def test_other_names_can_be_staged(site: SimpleNamespace, name: str) -> None:
    (site.far / name).write_text("text")
    sink = io.BytesIO()
    download = site.client.external_download(M, f"{site.home}/{name}")
    download.finish_download(sink, timeout=20)
    assert sink.getvalue() == b"text"


def test_a_closed_directory_is_no_place_for_an_upload(site: SimpleNamespace) -> None:
    """v1 would take it for the path of the file, which can never arrive."""
    made(site.far / "readonly", 0o500)
    exc = refused(
        lambda: _finished(
            site.client.external_upload(M, io.BytesIO(b"x" * 10), f"{site.home}/readonly")
        )
    )
    if site.version == "v1":
        assert exc.errno == errno.EACCES
    assert list((site.far / "readonly").iterdir()) == []


def _finished(upload: f7t.ExternalUpload) -> None:
    upload.finish_upload(timeout=20)
    upload.wait(timeout=20)


def test_giving_up_what_is_not_staged_is_no_failure(site: SimpleNamespace) -> None:
    """v1 stumbles over that (500)."""
    upload = site.client.external_upload(M, io.BytesIO(b"x" * 10), f"{site.home}/given_up")
    upload.cancel()
    assert upload.status == "302"
    assert not upload.in_progress


def test_a_source_that_vanishes(site: SimpleNamespace) -> None:
    (site.far / "brief").write_bytes(b"x" * 1000)
    site.emulator.knobs.put("queue_seconds", 1.0)
    download = site.client.external_download(M, f"{site.home}/brief")
    (site.far / "brief").unlink()
    site.emulator.knobs.put("queue_seconds", 0.05)
    if site.version == "v1":
        return  # staged by now, most likely
    with pytest.raises(f7t.StorageDownloadException):
        download.finish_download(io.BytesIO(), timeout=20)
    assert download.status == "118"


def test_a_target_that_vanishes(site: SimpleNamespace) -> None:
    made(site.far / "place")
    upload = site.client.external_upload(M, io.BytesIO(b"x" * 1000), f"{site.home}/place/file")
    assert upload.object_storage_data
    (site.far / "place").rmdir()
    upload.finish_upload()
    with pytest.raises(f7t.StorageUploadException) as caught:
        upload.wait(timeout=20)
    assert caught.value.responses
    assert upload.status in ("115", "113")
    with pytest.raises(FileNotFoundError):
        site.client.external_upload(M, io.BytesIO(b"x"), f"{site.home}/nowhere/file")


def test_v1_goes_on_with_an_upload_that_failed(site: SimpleNamespace) -> None:
    """What is sent again to the same form is what arrives."""
    if site.version != "v1":
        return
    made(site.far / "away")
    source = io.BytesIO(b"first")
    upload = site.client.external_upload(M, source, f"{site.home}/away/file")
    assert upload.object_storage_data
    (site.far / "away").rmdir()
    upload.finish_upload()
    with pytest.raises(f7t.StorageUploadException):
        upload.wait(timeout=20)
    source.seek(0)
    source.write(b"second")
    upload.finish_upload()
    (site.far / "away").mkdir()
    wait_until(lambda: upload.status == "114")
    assert (site.far / "away" / "file").read_bytes() == b"second"


def test_moves_that_fail(site: SimpleNamespace) -> None:
    (site.far / "here").write_text("content")
    made(site.far / "closed", 0o500)
    for call in (site.client.mv, site.client.copy):
        with pytest.raises(FileNotFoundError):
            call(M, f"{site.home}/nope", f"{site.home}/x")
        with pytest.raises(FileNotFoundError):
            call(M, f"{site.home}/here", f"{site.home}/no/such/place")
        with pytest.raises(PermissionError):
            call(M, f"{site.home}/here", f"{site.home}/closed/x")
    assert (site.far / "here").read_text() == "content"
    assert list(site.far.rglob(".f7t_*")) == []


def test_time_limits(site: SimpleNamespace) -> None:
    upload = site.client.external_upload(M, io.BytesIO(b"x"), f"{site.home}/never")
    with pytest.raises(TimeoutError):
        upload.wait(timeout=0.5)
    assert upload.in_progress
    if site.version == "v2":
        upload.cancel()
        assert not upload.in_progress
        (site.far / "slow").write_text("x")
        site.emulator.knobs.put("queue_seconds", 5.0)
        with pytest.raises(f7t.PollingIterException) as caught:
            site.client.mv(M, f"{site.home}/slow", f"{site.home}/slower", timeout=0.3)
        assert caught.value.ambiguous
        site.emulator.knobs.put("queue_seconds", 0.05)
