"""The object store: what S3 signs, accepts and refuses."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from firecrestfs.emulator import Emulator
from firecrestfs.emulator.objectstore import ObjectStore, StoreError
from firecrestfs.emulator.objectstore import signatures as signatures_module
from firecrestfs.emulator.objectstore.signatures import Signer

KEY = "demo/0123/file.bin"
MIB = 1024 * 1024


@pytest.fixture
def store(emulator: Emulator) -> ObjectStore:
    return emulator.store


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def code(response: requests.Response) -> tuple[int, str]:
    """Status and S3's code of an error."""
    match = re.search("<Code>(.*?)</Code>", response.text)
    return response.status_code, match.group(1) if match else ""


def part_list(etags: list[str]) -> str:
    rows = [f"<PartNumber>{n}</PartNumber><ETag>{tag}</ETag>" for n, tag in enumerate(etags, 1)]
    parts = "".join(f"<Part>{row}</Part>" for row in rows)
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"


def send_parts(
    store: ObjectStore, http: requests.Session, upload_id: str, *parts: bytes
) -> list[str]:
    return [
        http.put(store.presign("PUT", KEY, uploadId=upload_id, partNumber=n), data=part).headers[
            "ETag"
        ]
        for n, part in enumerate(parts, 1)
    ]


def test_signature_of_the_published_example(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    then = time.struct_time((2013, 5, 24, 0, 0, 0, 4, 144, 0))
    monkeypatch.setattr(signatures_module.time, "gmtime", lambda: then)
    query = signer.presign("GET", "examplebucket.s3.amazonaws.com", "/test.txt", 86400, [])
    assert query.endswith(
        "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_put_and_get_of_any_name(store: ObjectStore, http: requests.Session) -> None:
    for name in ("plain", "two words", "ü+&=%2F'\"", "comma,~"):
        key = f"demo/x/{name}"
        tag = http.put(store.presign("PUT", key), data=b"data").headers["ETag"]
        response = http.get(store.presign("GET", key))
        assert (response.content, response.headers["ETag"]) == (b"data", tag)
        assert http.head(store.presign("HEAD", key)).headers["Content-Length"] == "4"
        assert http.delete(store.presign("DELETE", key)).status_code == 204
        assert code(http.get(store.presign("GET", key))) == (404, "NoSuchKey")


def test_a_url_is_good_for_one_method_one_host_and_one_object(
    store: ObjectStore, http: requests.Session
) -> None:
    store.put(KEY, [b"data"])
    url = store.presign("GET", KEY)
    mismatch = (403, "SignatureDoesNotMatch")
    assert code(http.put(url, data=b"x" * MIB)) == mismatch
    assert code(http.delete(url)) == mismatch
    assert http.head(url).status_code == 403
    assert code(http.get(url.replace("file", "other"))) == mismatch
    assert code(http.get(f"{url}&versionId=1")) == mismatch
    assert code(http.get(url.replace("127.0.0.1", "localhost"))) == mismatch
    assert code(http.get(url, headers={"Host": "evil"})) == mismatch
    assert code(http.get(url.replace("EMULATEDKEY", "OTHERKEY"))) == (403, "InvalidAccessKeyId")
    assert code(http.get(store.location(KEY))) == (403, "AccessDenied")
    assert code(http.get(url, headers={"Authorization": "Bearer x"})) == (400, "InvalidArgument")
    assert store.open(KEY).read() == b"data"


def test_urls_expire(store: ObjectStore, http: requests.Session) -> None:
    store.put(KEY, [b"data"])
    url = store.presign("GET", KEY, expires=1)
    assert http.get(url).status_code == 200
    time.sleep(1.1)
    late = http.get(url)
    assert code(late) == (403, "AccessDenied")
    assert "<Message>Request has expired</Message>" in late.text
    other = http.get(store.presign("GET", KEY, expires=604801))
    assert code(other) == (400, "AuthorizationQueryParametersError")


@pytest.mark.parametrize(
    ("header", "status", "body", "where"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=3-5", 206, b"345", "bytes 3-5/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-4", 206, b"6789", "bytes 6-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=0-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(
    header: str,
    status: int,
    body: bytes,
    where: str | None,
    store: ObjectStore,
    http: requests.Session,
) -> None:
    store.put(KEY, [b"01234", b"56789"])
    response = http.get(store.presign("GET", KEY), headers={"Range": header})
    assert (response.status_code, response.content) == (status, body)
    assert response.headers.get("Content-Range") == where


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0"])
def test_ranges_past_the_end(header: str, store: ObjectStore, http: requests.Session) -> None:
    store.put(KEY, [b"0123456789"])
    response = http.get(store.presign("GET", KEY), headers={"Range": header})
    assert code(response) == (416, "InvalidRange")
    assert "<ActualObjectSize>10</ActualObjectSize>" in response.text


def test_conditions(store: ObjectStore, http: requests.Session) -> None:
    tag = f'"{store.put(KEY, [b"0123456789"]).etag}"'
    url = store.presign("GET", KEY)
    assert http.get(url, headers={"If-None-Match": tag}).status_code == 304
    assert code(http.get(url, headers={"If-Match": '"x"'})) == (412, "PreconditionFailed")
    some = {"Range": "bytes=0-1"}
    assert http.get(url, headers={**some, "If-Range": tag}).content == b"01"
    assert http.get(url, headers={**some, "If-Range": '"x"'}).content == b"0123456789"


def test_parts_make_an_object(store: ObjectStore, http: requests.Session, tmp_path: Path) -> None:
    upload_id = store.create_upload(KEY)
    parts = [b"a" * 5 * MIB, b"b" * 5 * MIB, b"c"]
    etags = send_parts(store, http, upload_id, *parts)
    assert not store.exists(KEY)
    url = store.presign("POST", KEY, uploadId=upload_id)
    done = http.post(url, data=part_list(etags))
    assert done.status_code == 200
    assert "<Key>0123/file.bin</Key>" in done.text
    assert store.open(KEY).read() == b"".join(parts)
    middle = {"Range": f"bytes={5 * MIB - 1}-{5 * MIB}"}
    assert http.get(store.presign("GET", KEY), headers=middle).content == b"ab"
    assert code(http.post(url, data=part_list(etags))) == (404, "NoSuchUpload")


def test_completing_again_may_be_fine(
    emulator: Emulator, store: ObjectStore, http: requests.Session
) -> None:
    emulator.knobs.put("complete_twice", True)
    upload_id = store.create_upload(KEY)
    body = part_list(send_parts(store, http, upload_id, b"data"))
    url = store.presign("POST", KEY, uploadId=upload_id)
    assert http.post(url, data=body).text == http.post(url, data=body).text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tags: part_list([]), (400, "MalformedXML")),
        (lambda tags: "no XML", (400, "MalformedXML")),
        (lambda tags: part_list(tags[::-1]), (400, "InvalidPart")),
        (lambda tags: part_list([*tags, tags[0]]), (400, "InvalidPart")),
        (lambda tags: part_list(tags).replace(">1<", ">3<"), (400, "InvalidPartOrder")),
        (lambda tags: part_list(tags), (400, "EntityTooSmall")),
    ],
)
def test_bad_part_lists(
    change: Any, expected: tuple[int, str], store: ObjectStore, http: requests.Session
) -> None:
    upload_id = store.create_upload(KEY)
    etags = send_parts(store, http, upload_id, b"too small", b"last")
    response = http.post(store.presign("POST", KEY, uploadId=upload_id), data=change(etags))
    assert code(response) == expected
    assert not store.exists(KEY)
    assert http.delete(store.presign("DELETE", KEY, uploadId=upload_id)).status_code == 204
    assert code(http.delete(store.presign("DELETE", KEY, uploadId=upload_id)))[0] == 404


def test_a_body_of_unknown_length_is_refused(store: ObjectStore, http: requests.Session) -> None:
    response = http.put(store.presign("PUT", KEY), data=iter([b"chunk"]))
    assert code(response) == (501, "NotImplemented")
    assert not store.exists(KEY)


def post(http: requests.Session, form: Any, content: bytes, **fields: str) -> requests.Response:
    files = {"file": ("any name", content)}
    return http.post(form.url, data={**form.fields, **fields}, files=files)


def test_forms(emulator: Emulator, store: ObjectStore, http: requests.Session) -> None:
    form = store.form(KEY)
    assert post(http, form, b"first").status_code == 204
    assert post(http, form, b"\r\n--second" * 100000).status_code == 204  # it may be posted again
    assert store.open(KEY).read() == b"\r\n--second" * 100000
    assert post(http, form, b"").status_code == 204
    assert store.open(KEY).read() == b""
    denied = (403, "AccessDenied")
    assert code(post(http, form, b"x", key="0123/other")) == denied
    assert code(post(http, form, b"x", acl="public-read")) == denied
    signature = {"x-amz-signature": "0" * 64}
    assert code(post(http, form, b"x" * MIB, **signature)) == (403, "SignatureDoesNotMatch")
    assert code(post(http, form, b"x", policy="e30=")) == (403, "SignatureDoesNotMatch")
    assert code(http.post(form.url, data=form.fields))[1] == "PreconditionFailed"
    no_file = {name: (None, value) for name, value in form.fields.items()}
    assert code(http.post(form.url, files=no_file)) == (400, "InvalidArgument")
    assert code(http.post(form.url, files={"file": ("x", b"x")})) == (400, "InvalidArgument")
    old = store.form(KEY, expires=-1)
    assert "Policy expired" in post(http, old, b"x").text
    assert store.keys() == [KEY]


def test_signatures_of_version_2(store: ObjectStore, http: requests.Session) -> None:
    put = store.presign_v2("PUT", KEY)
    url = store.location(KEY)
    assert http.put(url, params=put, data=b"data").status_code == 200
    kind = {"Content-Type": "text/plain"}
    assert code(http.put(url, params=put, data=b"x", headers=kind))[1] == "SignatureDoesNotMatch"
    assert code(http.get(url, params=put))[1] == "SignatureDoesNotMatch"
    assert http.get(url, params=store.presign_v2("GET", KEY)).content == b"data"
    old = store.presign_v2("GET", KEY, expires=-1)
    assert code(http.get(url, params=old)) == (403, "AccessDenied")


def test_objects_may_appear_late_and_go_by_themselves(
    emulator: Emulator, store: ObjectStore, http: requests.Session
) -> None:
    emulator.knobs.put("late_objects", 0.3)
    url = store.presign("GET", KEY)
    assert http.put(store.presign("PUT", KEY), data=b"data").status_code == 200
    assert code(http.get(url)) == (404, "NoSuchKey")
    time.sleep(0.35)
    assert http.get(url).content == b"data"
    emulator.knobs.put("object_days", 0)
    assert code(http.get(url)) == (404, "NoSuchKey")
    assert not list((emulator.root / ".store").iterdir())


def test_who_reads_an_object_is_not_disturbed_by_a_new_one(store: ObjectStore) -> None:
    store.put(KEY, [b"old" * MIB])
    with store.open(KEY) as file:
        store.put(KEY, [b"new"])
        assert file.read() == b"old" * MIB
    store.delete(KEY)
    with pytest.raises(FileNotFoundError):
        store.open(KEY)


def test_an_upload_that_breaks_off_leaves_nothing(emulator: Emulator, store: ObjectStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise StoreError("IncompleteBody")

    with pytest.raises(StoreError):
        store.put(KEY, broken())
    assert not store.exists(KEY)
    assert not list((emulator.root / ".store").iterdir())


def peak_memory(*, reset: bool = False) -> int:
    """Return the most KiB of memory that this process has had since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_large_objects_pass_through_without_filling_the_memory(
    store: ObjectStore, http: requests.Session, tmp_path: Path
) -> None:
    size = 300 * MIB
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.truncate(size)
    before = peak_memory(reset=True)
    with source.open("rb") as file:
        assert http.put(store.presign("PUT", KEY), data=file).status_code == 200
    refused = store.presign("PUT", "demo/other").replace("other", "wrong")
    with source.open("rb") as file:
        assert http.put(refused, data=file).status_code == 403
    read = []

    def fetch(start: int) -> None:
        ranged = {"Range": f"bytes={start}-{start + size // 3 - 1}"}
        with requests.get(store.presign("GET", KEY), headers=ranged, stream=True) as response:
            read.append(sum(len(chunk) for chunk in response.iter_content(MIB)))

    threads = [threading.Thread(target=fetch, args=(n * size // 3,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(read) == size
    assert peak_memory() - before < 100 * 1024
