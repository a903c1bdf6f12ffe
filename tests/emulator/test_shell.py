"""Reading command lines: as bash does, and without ever running what a path smuggles in."""

from __future__ import annotations

import subprocess

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from firecrestfs.emulator import Emulator
from firecrestfs.emulator.shell import Alarms, CommandFailed, Injection, match_line, read

from .conftest import Client

TEMPLATE = "printf '%s\\0' '{path}'"
CHARACTERS = st.sampled_from("ab/ '\"\\$;&|<>()*?[]{}~#`!\n\t-=")


def bash(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/plain", "/plain"),
        ("/it'\\''s", "/it's"),
        ("/it'\"'\"'s", "/it's"),
        ("/two  words; rm -rf ~", "/two  words; rm -rf ~"),
        ("/$HOME`id`\\", "/$HOME`id`\\"),
        ("/brace{a,b}", "/brace{a,b}"),
    ],
)
def test_words_that_are_just_the_path(path: str, word: str) -> None:
    alarms = Alarms()
    assert read(TEMPLATE, alarms, path=path) == {"path": word}
    assert alarms.list() == []


@pytest.mark.parametrize(
    "path",
    [
        "/x'; touch y; echo '",
        "/x' 'y",
        "/x'$(id)'",
        "/x'*'",
        "/x' > 'y",
        "/x' && echo 'y",
        "/x'\necho 'y",
        "/x' #'",
    ],
)
def test_a_path_that_changes_the_command_trips_the_alarm(path: str) -> None:
    alarms = Alarms()
    with pytest.raises(Injection):
        read(TEMPLATE, alarms, path=path)
    assert len(alarms.list()) == 1


def test_an_unfinished_quote_is_the_shells_complaint() -> None:
    alarms = Alarms()
    with pytest.raises(CommandFailed) as caught:
        read(TEMPLATE, alarms, path="/it's")
    assert caught.value.status == 2
    assert caught.value.stderr == bash("printf '/it's'").stderr.splitlines(keepends=True)[0]
    assert alarms.list() == []


@settings(max_examples=300, deadline=None)
@given(st.text(CHARACTERS, max_size=8))
def test_bash_agrees(path: str) -> None:
    """Whatever is taken as a harmless path, bash takes as exactly that word."""
    try:
        word = read(TEMPLATE, Alarms(), path=path)["path"]
    except CommandFailed as exc:
        if isinstance(exc, Injection):
            return  # not to be run, not even here
        assert bash(TEMPLATE.replace("{path}", path)).returncode == 2
        return
    assert bash(TEMPLATE.replace("{path}", path)).stdout == word + "\0"


def test_lines_before_an_open_quote_are_run() -> None:
    alarms = Alarms()
    with pytest.raises(Injection):
        read(TEMPLATE, alarms, path="'; rm -r .\n")
    assert len(alarms.list()) == 1


def test_unquoted_places_take_only_plain_words() -> None:
    template = "cd {folder}; pwd"
    assert match_line("cd /a/b; pwd", template, ("folder",), Alarms()) == {"folder": "/a/b"}
    for line in ("cd /a b; pwd", "cd ~; pwd", "cd $HOME; pwd"):
        with pytest.raises(Injection):
            match_line(line, template, ("folder",), Alarms())


def test_alarms_reach_the_test(emulator: Emulator, client: Client) -> None:
    response = client.get("stat", "/home/demo/x'; touch /home/demo/y; '")
    assert response.status_code == 500
    assert len(emulator.alarms) == 1
    assert client.names("/home/demo") == []
    over_http = requests.get(f"{emulator.url}/_emulator/alarms?reset=1", timeout=10).json()
    assert "touch /home/demo/y" in over_http[0]
    assert emulator.alarms == []


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("symlink", {"path": "/home/demo/a", "linkPath": "/home/demo/x' 'y"}),
        ("chmod", {"path": "/home/demo/a", "mode": "0' '7"}),
        ("chown", {"path": "/home/demo/a", "group": "staff' '"}),
        ("compress", {"path": "/home/demo/-x", "targetPath": "/home/demo/a.tgz"}),
        ("extract", {"path": "/home/demo/a.tgz", "targetPath": "/home/demo' '-x"}),
    ],
)
def test_every_field_that_reaches_a_shell_is_watched(
    name: str, body: dict[str, str], emulator: Emulator, client: Client
) -> None:
    method = "PUT" if name.startswith("ch") else "POST"
    assert client.ops(method, name, json=body).status_code == 500
    assert len(emulator.alarms) == 1
