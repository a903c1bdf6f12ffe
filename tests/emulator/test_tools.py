"""Our versions of the tools against the real ones on this machine, on names and inputs made up."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firecrestfs.emulator import listing, quoting, reading
from firecrestfs.emulator.accounts import Directory, default_accounts
from firecrestfs.emulator.knobs import Knobs
from firecrestfs.emulator.login import Login
from firecrestfs.emulator.modes import BadMode, apply_mode
from firecrestfs.emulator.tree import Tree

LOCALES = {"utf8": "C.UTF-8", "c": "C"}
NAMES = st.text(
    st.one_of(
        st.sampled_from("ab '\"\\$`!*?[]{}~#;&|<>()=^:-\n\t\x07\x1b"),
        st.characters(codec="utf-8", exclude_characters="/\0", max_codepoint=0x2FFF),
    ),
    min_size=1,
    max_size=6,
)


def run(
    *argv: str, locale: str = "utf8", cwd: str | None = None
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LC_ALL": LOCALES[locale]}
    return subprocess.run(
        argv,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        env=env,
        cwd=cwd,
        check=False,
    )


def make_login(root: str) -> Login:
    directory = Directory(default_accounts(("demo",)), [("home",)])
    os.makedirs(f"{root}/home/demo", exist_ok=True)
    account = directory.accounts["demo"]
    return Login(account, "/home/demo", Tree(root, directory), directory, Knobs())


@settings(max_examples=60, deadline=None)
@given(NAMES, st.sampled_from(["utf8", "c"]))
def test_names_in_error_messages(name: str, locale: str) -> None:
    name = f"/nonexistent/{name}"
    complaint = run("stat", "--", name, locale=locale).stderr
    assert (
        complaint
        == f"stat: cannot statx {quoting.shell_quoted(name, locale)}: No such file or directory\n"
    )
    complaint = run("sha256sum", "--", name, locale=locale).stderr
    quoted = quoting.shell_quoted_if_needed(name, locale)
    assert complaint == f"sha256sum: {quoted}: No such file or directory\n"
    complaint = run("mkdir", "--", name, locale=locale).stderr
    quoted = quoting.typographic(name, locale)
    assert complaint == f"mkdir: cannot create directory {quoted}: No such file or directory\n"


@settings(max_examples=40, deadline=None)
@given(st.sets(NAMES, min_size=1, max_size=6), st.sampled_from(["utf8", "c"]))
def test_listing_has_the_order_quoting_and_length_of_ls(names: set[str], locale: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        login = make_login(root)
        login.knobs.put("locale", locale)
        home = f"{root}/home/demo"
        for name in names - {".", ".."}:
            Path(home, name).touch()
        real = run(
            "ls", "-lA", "--numeric-uid-gid", "--quoting-style=c",
            "--time-style=+%Y-%m-%dT%H:%M:%S", home, locale=locale,
        ).stdout  # fmt: skip
        ours = listing.ls(login, "/home/demo", listing.Options(hidden=True, numeric=True))
        quoted = [
            quoting.c_quoted(name, locale) for name in sorted(names - {".", ".."}, key=os.fsencode)
        ]
        assert [line.split(" ", 6)[-1].lstrip() for line in real.splitlines()[1:]] == [
            line for line in quoted
        ]
        spare = _owner_columns(ours) - _real_owner_columns(real)
        assert ours.text_size == len(real.encode("utf-8", "surrogateescape")) + spare


def _owner_columns(found: listing.Listing) -> int:
    return sum(len(row.user) + len(row.group) for row in found.entries)


def _real_owner_columns(text: str) -> int:
    return sum(len(line.split()[2]) + len(line.split()[3]) for line in text.splitlines()[1:])


MODES = ["644", "0755", "4755", "u+x", "g=u", "a-w", "+x", "o=", "u=rwX,go=rX", "ug+s", "+t", "-x"]
MODES += ["888", "zzz", "u+", "00770", "=r", "u=g,g-w", "7777", "10000", "u+rw-x", "a+X", "o+t"]


@pytest.mark.parametrize("text", MODES)
@pytest.mark.parametrize("before", [0o644, 0o755, 0o2770, 0o000])
@pytest.mark.parametrize("is_dir", [False, True])
def test_modes_as_chmod_reads_them(text: str, before: int, is_dir: bool, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir() if is_dir else path.touch()
    path.chmod(before)
    umask = os.umask(0o022)
    try:
        done = run("chmod", text, "--", str(path))
    finally:
        os.umask(umask)
    if "invalid mode" in done.stderr:
        with pytest.raises(BadMode):
            apply_mode(text, before, is_dir=is_dir, umask=0o022)
    else:
        after = stat.S_IMODE(path.stat().st_mode)
        assert apply_mode(text, before, is_dir=is_dir, umask=0o022) == after


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=30).map(lambda data: data.replace(b"\x00", b"\n")),
    st.sampled_from(["bytes", "lines"]),
    st.integers(-9, 9).map(str),
    st.booleans(),
)
def test_head_and_tail(data: bytes, unit: str, number: str, plus: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        login = make_login(root)
        path = f"{root}/home/demo/f"
        Path(path).write_bytes(data)
        option = f"--{unit}={number}"
        real = subprocess.run(["head", option, path], capture_output=True, check=True).stdout
        assert reading.head(login, "/home/demo/f", unit, number) == real
        number = f"+{number}" if plus and not number.startswith("-") else number
        option = f"--{unit}={number}"
        real = subprocess.run(["tail", option, path], capture_output=True, check=True).stdout
        assert reading.tail(login, "/home/demo/f", unit, number) == real
