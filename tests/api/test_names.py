"""Names: what is sent, what never is, and what listings mean."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrestfs.api import names
from firecrestfs.errors import FirecrestException


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/b///", "/a/b"),
        ("//a//b", "/a/b"),
        ("/a/./b/.", "/a/b"),
        ("/", "/"),
        ('/a b/ $x`;*"\\\n-', '/a b/ $x`;*"\\\n-'),
        ("/日本/😀", "/日本/😀"),
        ("/...", "/..."),
    ],
)
def test_paths_that_are_sent(path: str, sent: str) -> None:
    assert names.checked_path(path) == sent


@pytest.mark.parametrize(
    "path",
    ["/it's", "/a\0b", "/bad\udcff", "/\ud800", "rel", "", "~", "/a/../b", "/..", b"/a", None],
)
def test_paths_that_never_are(path: str) -> None:
    with pytest.raises(FirecrestException) as caught:
        names.checked_path(path)
    assert caught.value.errno == errno.EINVAL
    str(caught.value).encode()  # fit for a log


def test_the_offending_character_is_named() -> None:
    with pytest.raises(FirecrestException, match="single quote"):
        names.checked_path("/it's")


def test_a_trailing_slash_survives_where_it_means_something() -> None:
    assert names.checked_path("/a/", slash=True) == "/a/"
    assert names.checked_path("/a", slash=True) == "/a"
    assert names.checked_path("/", slash=True) == "/"


def test_long_names() -> None:
    assert names.checked_path("/" + "ä" * 127)
    for path in ("/" + "ä" * 128, "/a" * 2100):
        with pytest.raises(FirecrestException) as caught:
            names.checked_path(path)
        assert caught.value.errno == errno.ENAMETOOLONG


@given(st.text())
def test_nothing_gets_out_of_the_quotes(path: str) -> None:
    try:
        sent = names.checked_path(path)
    except FirecrestException as exc:
        assert exc.errno in (errno.EINVAL, errno.ENAMETOOLONG)
    else:
        assert sent.startswith("/")
        assert not set("'\0") & set(sent)
        assert sent == "/" or not sent.endswith("/")
        assert not {".", "..", ""} & set(sent[1:].split("/")) or sent == "/"


@pytest.mark.parametrize(
    "name", ["a", "a b", "ü", "back\\slash", "tab\t", "percent%41", "-", "a;b"]
)
def test_names_that_can_be_uploaded(name: str) -> None:
    assert names.upload_name(name) == name


@pytest.mark.parametrize(
    "name", ['d"q', "new\nline", "cr\rx", "it's", "a/b", "", ".", "..", "\0", "\udcff"]
)
def test_names_that_cannot(name: str) -> None:
    with pytest.raises(FirecrestException) as caught:
        names.upload_name(name)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("listed", "meant"),
    [
        ("plain", ("plain",)),
        ("back\\slash", ("back\\slash",)),
        ("end\\", ("end\\",)),
        ("a\\8b", ("a\\8b",)),
        ("caf\\303\\251", ("café",)),
        ("ls\\342\\200\\250sep", ("ls\u2028sep",)),
        ("nel\\302\\205x", ("nel\x85x",)),
        ("bad\\377.bin", ("bad\udcff.bin",)),
        ("half\\303.bin", ("half\udcc3.bin",)),
        ("ü\\377", ("ü\udcff",)),
        ("new\\nline", ("new\nline", "new\\nline")),
        ("esc\\033[31m", ("esc\x1b[31m", "esc\\033[31m")),
        ("bell\\a", ("bell\a", "bell\\a")),
    ],
)
def test_what_a_listed_name_means(listed: str, meant: tuple[str, ...]) -> None:
    assert names.candidates(listed) == meant


@pytest.mark.parametrize(
    ("heading", "real"),
    [
        ('q\\"d', 'q"d'),
        ("back\\\\slash", "back\\slash"),
        ("back\\\\nslash", "back\\nslash"),
        ("new\\ndir", "new\ndir"),
        ("caf\\303\\251", "café"),
        ("bad\\377", "bad\udcff"),
        ("sp dir", "sp dir"),
    ],
)
def test_headings_are_exact(heading: str, real: str) -> None:
    assert names.unescaped(heading) == real


_LETTERS = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}


def c_quoted(raw: bytes, *, utf8: bool) -> str:
    """Quote as `ls --quoting-style=c` does, without the quotes around it."""
    out = ""
    for c in raw.decode("utf-8", "surrogateescape"):
        encoded = c.encode("utf-8", "surrogateescape")
        if c in '"\\':
            out += "\\" + c
        elif len(encoded) == 1 and encoded[0] in _LETTERS:
            out += "\\" + _LETTERS[encoded[0]]
        elif c.isprintable() and (utf8 or c.isascii()) and not "\udc80" <= c <= "\udcff":
            out += c
        else:
            out += "".join(f"\\{byte:03o}" for byte in encoded)
    return out


raw_names = st.binary(min_size=1, max_size=12).filter(lambda raw: not {0, 47} & set(raw))


@given(raw_names, st.booleans())
def test_headings_can_be_undone(raw: bytes, utf8: bool) -> None:
    assert names.unescaped(c_quoted(raw, utf8=utf8)) == raw.decode("utf-8", "surrogateescape")


@given(raw_names.filter(lambda raw: b"\\" not in raw), st.booleans())
def test_the_real_name_is_the_first_candidate(raw: bytes, utf8: bool) -> None:
    listed = c_quoted(raw, utf8=utf8).replace('\\"', '"')
    assert names.candidates(listed)[0] == raw.decode("utf-8", "surrogateescape")


@given(st.text(alphabet="\\nrt01ab é", min_size=1, max_size=8))
def test_the_real_name_is_among_the_candidates(name: str) -> None:
    r"""Except for a real backslash before the octal digits of a byte above ASCII (`\200`)."""
    listed = c_quoted(name.encode(), utf8=True).replace('\\"', '"').replace("\\\\", "\\")
    assert name in names.candidates(listed)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b"])
def test_entries_that_no_directory_has(name: str) -> None:
    assert not names.fit_entry(name)


def test_relative_paths_of_recursive_listings() -> None:
    assert names.fit_relative("a/b/c")
    for path in ("a/../b", "/a", "a//b", "..", "a/", "a/."):
        assert not names.fit_relative(path)


RECORDED = Path(__file__).resolve().parents[3] / "shared" / "recordings" / "v2" / "names.json"


@pytest.mark.skipif(not RECORDED.is_file(), reason="no recordings here")
def test_recorded_names() -> None:
    """Each recorded name's real form is known from the stat that followed."""
    steps = json.loads(RECORDED.read_text())["steps"]
    listed = [entry["name"] for entry in steps[0]["response"]["body"]["output"]]
    meant = {name for entry in listed for name in names.candidates(entry)}
    real = [
        step["request"]["query"]["path"].removeprefix("{HOME}/rec/names/")
        for step in steps
        if step["name"].startswith("stat ") and step["response"]["status"] == 200
    ]
    assert len(real) > 40
    assert [name for name in real if name not in meant and "'\\''" not in name] == []
