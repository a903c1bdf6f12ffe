"""`/utilities/*` of API v1, beyond what the recordings hold."""

from __future__ import annotations

import io
import os
import socket
import stat
import time
import zipfile
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator

from .conftest import V1Client

_HOME = "/home/demo"


# -- listings -------------------------------------------------------------------------------------


def test_listing_is_lossy_in_the_c_locale(v1: Emulator, v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "näme").touch()
    (v1_home / "two\nlines").touch()
    assert v1_client.names(_HOME) == ["näme", "two\\nlines"]
    v1.knobs.put("locale", "c")
    assert v1_client.names(_HOME) == ["n\\303\\244me", "two\\nlines"]


def test_recursion_marks_empty_directories_with_empty_strings(
    v1_client: V1Client, v1_home: Path
) -> None:
    for name in ("a/empty", "a/full", "b"):
        (v1_home / name).mkdir(parents=True)
    (v1_home / "a/full/f").touch()
    assert v1_client.names(_HOME, recursive="true") == [
        *("a", "b", "a/empty", "a/full", "", "a/full/f"),
    ]
    assert v1_client.names(_HOME + "/", recursive="true")[:2] == ["/a", "/b"]


def test_sockets_are_shown_and_groups_with_spaces_vanish(
    v1_client: V1Client, v1_home: Path, v1: Emulator
) -> None:
    (v1_home / "f").touch()
    os.mkfifo(v1_home / "pipe")
    assert v1_client.names(_HOME) == ["f", "pipe"]
    directory = v1.cluster.directory
    directory._group_names = dict.fromkeys(directory._group_names, "domain users")
    text = v1_client.get("ls", _HOME).json()["output"]
    assert all(isinstance(line, str) for line in text)  # nothing that looks like a file is left
    assert v1_client.names(_HOME, numericUid="true") == ["f", "pipe"]


def test_one_name_can_break_a_directory(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "cannot open this").write_bytes(b"x")
    response = v1_client.get("ls", _HOME)
    assert response.status_code == 400
    assert response.headers["X-Permission-Denied"].startswith("User does not have")
    assert '"cannot open this"' in response.json()["error"]
    assert v1_client.get("stat", f"{_HOME}/cannot open this").status_code == 200


def test_listing_over_the_limit_fails_and_names_alone_pass(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    for number in range(100):
        (v1_home / f"file-{number:03}").touch()
    v1.knobs.put("max_ops_file_size", 4000)
    response = v1_client.get("ls", _HOME)
    assert response.headers["X-Error"] == "Command output exceeded buffer limit (4000)"
    assert len(v1_client.names(_HOME, notListing="true")) == 100


def test_listing_of_many_entries_is_fast(v1_client: V1Client, v1_home: Path) -> None:
    for number in range(5000):
        (v1_home / f"file-{number:04}").touch()
    started = time.perf_counter()
    assert len(v1_client.names(_HOME)) == 5000
    assert time.perf_counter() - started < 2


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "header"),
    [("nope", "X-Not-Found"), ("overwrite", "X-Not-Found"), ("nope directory", "X-Not-Found")],
)
def test_stat_of_missing_files(v1_client: V1Client, name: str, header: str) -> None:
    assert header in v1_client.get("stat", f"{_HOME}/{name}").headers


def test_names_of_files_mislead_the_rules(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "directory").write_bytes(b"")
    response = v1_client.send(
        "PUT", "rename", sourcePath=f"{_HOME}/directory", targetPath=f"{_HOME}/directory"
    )
    assert "are the same file" in response.json()["error"]
    assert "X-A-Directory" in response.headers


def test_noise_makes_calls_fail_after_they_have_acted(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    v1.knobs.put("noise", "module: command not found\n")
    response = v1_client.send("POST", "mkdir", targetPath=f"{_HOME}/d")
    assert response.status_code == 400
    assert response.json()["error"] == "module: command not found"
    assert (v1_home / "d").is_dir()
    (v1_home / "f").write_bytes(b"content")
    assert v1_client.get("head", f"{_HOME}/f").json()["output"] == "content"


def test_banner_spoils_what_is_parsed(v1: Emulator, v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_bytes(b"content")
    v1.knobs.put("banner", "Welcome!\n")
    assert v1_client.call("GET", "/utilities/whoami").json()["output"] == "Welcome!\ndemo"
    assert v1_client.get("stat", f"{_HOME}/f").status_code == 500
    assert v1_client.download(f"{_HOME}/f").status_code == 500


def test_header_that_is_not_latin_1_ends_at_the_gateway(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_bytes(b"")
    response = v1_client.get("head", f"{_HOME}/f", lines="x")  # complains with ‘x’
    assert response.status_code == 502
    words = "An invalid response was received from the upstream server"
    assert response.json() == {"message": words}


def test_the_wrapper_makes_one_space_of_several(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    assert v1_client.upload(_HOME, "a  b", b"1").status_code == 201
    assert os.listdir(v1_home) == ["a b"]
    v1.knobs.put("wrapper", False)
    assert v1_client.upload(_HOME, "a  b", b"2").status_code == 201
    assert sorted(os.listdir(v1_home)) == ["a  b", "a b"]
    refused = v1_client.upload(f"{_HOME}/nope", "f", b"")
    assert refused.json()["error"] == "bash: line 1: /home/demo/nope/f: No such file or directory"


def test_patterns_of_grep_can_change_the_command(v1: Emulator, v1_client: V1Client) -> None:
    response = v1_client.get("head", f"{_HOME}/f", grep="'; rm -rf ~; '")
    assert response.status_code == 400
    assert len(v1.alarms) == 1
    v1._site.alarms.clear()


# -- content --------------------------------------------------------------------------------------


def test_largest_download_is_three_quarters_of_the_limit(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    limit = 4096
    v1.knobs.put("max_ops_file_size", limit)
    largest = 3 * (limit // 4 - 1)
    for size, status, header in (
        (largest, 200, "Content-Length"),
        (largest + 1, 400, "X-Error"),
        (limit, 400, "X-Error"),
        (limit + 1, 400, "X-Size-Limit"),
    ):
        (v1_home / "f").write_bytes(b"x" * size)
        response = v1_client.download(f"{_HOME}/f")
        assert response.status_code == status
        assert header in response.headers


def test_ranges_of_a_download(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_bytes(bytes(range(100)))
    part = v1_client.download(f"{_HOME}/f", Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert part.headers["Content-Range"] == "bytes 10-19/100"
    assert v1_client.download(f"{_HOME}/f", Range="bytes=100-").status_code == 416


def test_what_has_no_size_comes_empty(v1_client: V1Client, v1_home: Path) -> None:
    os.mkfifo(v1_home / "pipe")
    response = v1_client.download(f"{_HOME}/pipe")
    assert (response.status_code, response.content) == (200, b"")
    assert "X-Timeout" in v1_client.get("checksum", f"{_HOME}/pipe").headers
    assert v1_client.upload(_HOME, "pipe", b"x").status_code == 500


def test_body_limit_counts_the_whole_body(v1: Emulator, v1_client: V1Client, v1_home: Path) -> None:
    v1.knobs.put("max_ops_file_size", 2000)
    assert v1_client.upload(_HOME, "f", b"x" * 1500).status_code == 201
    response = v1_client.upload(_HOME, "f", b"y" * 1900)
    assert response.status_code == 413
    words = "Failed to upload file. The file is over 2000 bytes"
    assert response.json() == {"description": words}
    assert (v1_home / "f").read_bytes() == b"x" * 1500


def test_too_large_a_body_is_answered_before_it_is_sent(v1: Emulator) -> None:
    v1.knobs.put("max_ops_file_size", 1000)
    token = v1.tokens.issue("demo", 300)
    head = (
        f"POST /utilities/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "X-Machine-Name: cluster\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 100000000\r\n\r\n"
    )
    port = int(v1.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_upload_writes_in_place(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_bytes(b"old and longer")
    (v1_home / "f").chmod(0o600)
    os.link(v1_home / "f", v1_home / "g")
    assert v1_client.upload(_HOME, "f", b"new").status_code == 201
    assert (v1_home / "g").read_bytes() == b"new"
    assert stat.S_IMODE((v1_home / "f").stat().st_mode) == 0o600
    assert v1_client.upload(_HOME, "empty", b"").status_code == 201
    assert (v1_home / "empty").read_bytes() == b""


def test_full_disk_leaves_a_truncated_file(
    v1: Emulator, v1_client: V1Client, v1_home: Path
) -> None:
    (v1_home / "f").write_bytes(b"old")
    v1.knobs.put("disk_full", True)
    response = v1_client.upload(_HOME, "f", b"new")
    assert response.headers["X-Error"] == "cat: write error: No space left on device"
    assert (v1_home / "f").read_bytes() == b""
    (v1_home / "g").write_bytes(b"x" * 5000)
    copy = v1_client.send("POST", "copy", sourcePath=f"{_HOME}/g", targetPath=f"{_HOME}/h")
    assert copy.json()["error"].endswith("No space left on device")


def test_view_shows_ten_lines_unless_told(v1_client: V1Client, v1_home: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(50))
    (v1_home / "f").write_text(text)
    assert v1_client.get("view", f"{_HOME}/f").json()["output"].count("\n") == 10
    assert v1_client.get("view", f"{_HOME}/f", bytes=str(len(text))).json()["output"] == text


# -- names ----------------------------------------------------------------------------------------


def test_rename_and_copy_move_into_directories_and_over_links(
    v1_client: V1Client, v1_home: Path
) -> None:
    (v1_home / "d").mkdir()
    (v1_home / "to_d").symlink_to("/home/demo/d")  # not what it is on this machine
    (v1_home / "f").write_text("f")

    def send(method: str, name: str, source: str, target: str) -> int:
        form = {"sourcePath": f"{_HOME}/{source}", "targetPath": f"{_HOME}/{target}"}
        return v1_client.send(method, name, **form).status_code

    assert send("POST", "copy", "f", "to_d") == 201
    assert (v1_home / "d/f").read_text() == "f"
    (v1_home / "link").symlink_to("/home/demo/d/f")
    (v1_home / "g").write_text("g")
    assert send("POST", "copy", "g", "link") == 201
    assert (v1_home / "d/f").read_text() == "g"
    assert send("PUT", "rename", "g", "link") == 200
    assert not (v1_home / "link").is_symlink()
    assert (v1_home / "d/f").read_text() == "g"


def test_copy_does_not_write_through_a_dangling_link(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_text("f")
    (v1_home / "link").symlink_to("nowhere")
    form = {"sourcePath": f"{_HOME}/f", "targetPath": f"{_HOME}/link"}
    error = v1_client.send("POST", "copy", **form).json()["error"]
    assert error == "cp: not writing through dangling symlink '/home/demo/link'"


def test_no_link_leads_out_of_the_cluster(
    v1_client: V1Client, v1_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (v1_home / "f").write_text("f")
    (v1_home / "out").symlink_to(tmp_path / "outside")
    form = {"sourcePath": f"{_HOME}/f", "targetPath": f"{_HOME}/out/f"}
    assert v1_client.send("POST", "copy", **form).status_code == 400
    assert v1_client.send("PUT", "rename", **form).status_code == 400
    assert list((tmp_path / "outside").iterdir()) == []


def test_what_is_above_the_homes_belongs_to_root(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_text("f")
    for method, name in (("PUT", "rename"), ("POST", "copy")):
        form = {"sourcePath": f"{_HOME}/f", "targetPath": "/home/f"}
        assert "X-Permission-Denied" in v1_client.send(method, name, **form).headers
    assert v1_client.send("DELETE", "rm", targetPath="/").json()["error"].startswith("rm: it is da")


def test_zip_files_are_unpacked(v1_client: V1Client, v1_home: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("dir/member.txt", "zipped")
    (v1_home / "a.zip").write_bytes(archive.getvalue())
    (v1_home / "out").mkdir()

    def extract(source: str, **more: str) -> dict[str, str]:
        form = {"sourcePath": f"{_HOME}/{source}", "targetPath": f"{_HOME}/out", **more}
        return dict(v1_client.send("POST", "extract", **form).json())

    assert extract("a.zip")["output"] == ""
    assert (v1_home / "out/dir/member.txt").read_text() == "zipped"
    assert extract("a.zip", type=".tar")["error"].startswith("tar: ")
    missing = extract("b.zip")["error"]
    assert missing.startswith("unzip:  cannot find or open /home/demo/b.zip")
    assert extract("a.rar")["error"] == "Unsupported file format in /home/demo/a.rar."


def test_compress_wants_a_folder_before_the_name(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_text("f")
    form = {"sourcePath": "f", "targetPath": f"{_HOME}/f.tgz"}
    assert v1_client.send("POST", "compress", **form).json()["error"].startswith("tar: : Cannot op")
    form = {"sourcePath": f"{_HOME}/f", "targetPath": f"{_HOME}/f.tgz"}
    assert v1_client.send("POST", "compress", **form).status_code == 201


def test_chmod_and_chown_say_what_they_did(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").touch(0o644)
    changed = v1_client.send("PUT", "chmod", targetPath=f"{_HOME}/f", mode="600").json()["output"]
    assert changed == "mode of '/home/demo/f' changed from 0644 (rw-r--r--) to 0600 (rw-------)"
    kept = v1_client.send("PUT", "chown", targetPath=f"{_HOME}/f", owner="demo").json()["output"]
    assert kept == "ownership of '/home/demo/f' retained as demo:staff"
