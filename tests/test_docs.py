"""What is written agrees with what is there: help texts, the README, its commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from firecrestfs.cli import main
from firecrestfs.config import _ENVIRONMENT, Config, SystemConfig, tomllib

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

COMMANDS: dict[str, click.Command] = dict(sorted(main.commands.items()))
OPTIONS = [
    (name, option)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for option in [max(parameter.opts, key=len)]
]
#: Programs that a bare Debian has, or that the quick start itself brings.
EVERYWHERE = {"cd", "export", "command", "sudo", "apt-get", "mkdir", "pip", "make", "git", "ls"}
EVERYWHERE |= {"cp", "cat", "echo", "sed", "getfattr", "source", ".", "python3", "touch", "rm"}

every_command = pytest.mark.parametrize("name", COMMANDS)


def readme() -> str:
    assert README.exists(), "README.md is missing"
    return README.read_text()


def fences(language: str = "") -> list[str]:
    """Return the README's fenced blocks, all or those of one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", readme(), re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if not language or kind == language]


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", readme(), re.MULTILINE | re.DOTALL)
    assert match is not None, f"no section {title!r}"
    return match[1]


# -- the command line ----------------------------------------------------------------------------


@every_command
def test_every_command_has_help_with_an_example(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert len(text.split("\n")[0]) > 10
    assert f"Example:  firecrestfs {name}" in text


@every_command
def test_every_option_says_what_it_does(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            chosen = isinstance(parameter.type, click.Choice)
            assert parameter.help or chosen, parameter.opts


@every_command
def test_examples_of_help_texts_are_accepted(name: str) -> None:
    """Parsed, not carried out."""
    for line in re.findall(r"Example:  firecrestfs (.*)", COMMANDS[name].help or ""):
        words = shlex.split(line)
        assert words[0] == name
        COMMANDS[name].make_context(name, words[1:])


# -- the README ----------------------------------------------------------------------------------


@every_command
def test_every_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"firecrestfs {name}\b", readme())


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda value: str(value))
def test_every_option_is_in_the_readme(name: str, option: str) -> None:
    row = next(line for line in readme().splitlines() if line.startswith(f"| `firecrestfs {name}"))
    assert option in row


def test_the_readme_names_no_command_that_is_not_there() -> None:
    code = "\n".join([*fences(), *re.findall(r"`([^`\n]+)`", readme())])
    indented = "\n".join(re.findall(r"^ {4}\S.*$", readme(), re.MULTILINE))
    for name in re.findall(r"\bfirecrestfs ([a-z]+)\b", code + "\n" + indented):
        assert name in COMMANDS, name


def test_fences_are_closed() -> None:
    assert readme().count("```") % 2 == 0


@pytest.mark.parametrize("number", range(len(fences("sh")) if README.exists() else 1))
def test_shell_blocks_are_shell(number: int) -> None:
    text = fences("sh")[number]
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_shell_blocks_name_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in fences("sh"):
        text = re.sub(r"(^|\s)#.*", "", text)
        for line in re.split(r"\n|&&|\|\|?|;", text):
            words = shlex.split(line)
            if not words or "=" in words[0]:
                continue
            assert words[0] in EVERYWHERE | {"firecrestfs"} or shutil.which(words[0]), line
            if words[0] == "make":
                assert set(words[1:]) <= targets, line
            if words[0] == "firecrestfs":
                assert words[1] in COMMANDS, line


def test_the_quick_start_is_shell_and_short() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", section("Quick start"), re.MULTILINE | re.DOTALL)
    assert blocks
    assert sum(len(text.strip().splitlines()) for text in blocks) <= 5


@pytest.mark.parametrize("number", range(len(fences("toml")) if README.exists() else 1))
def test_toml_blocks_are_settings(number: int) -> None:
    tables = tomllib.loads(fences("toml")[number])
    known = {name.replace("_", "-") for name in Config.__dataclass_fields__} | set(
        Config.__dataclass_fields__
    )
    for table in tables.values():
        assert set(table) <= known
        for system in table.get("systems", {}).values():
            assert set(system) <= set(SystemConfig.__dataclass_fields__)


@pytest.mark.parametrize("name", sorted(set(_ENVIRONMENT.values())))
def test_every_variable_is_in_the_readme(name: str) -> None:
    assert name in readme()


@pytest.mark.parametrize("name", sorted(Config.__dataclass_fields__))
def test_every_setting_is_in_the_readme(name: str) -> None:
    assert name in readme() or name.replace("_", "-") in readme()


def test_links_within_the_readme_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", readme(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}
    for anchor in re.findall(r"\]\(#([^)]+)\)", readme()):
        assert anchor in anchors
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)", readme()):
        assert (ROOT / path).exists(), path
