"""Settings: where they come from, which wins, what is refused, what is never shown."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from firecrestfs import config
from firecrestfs.config import Config, SystemConfig, load, parse_size, require_server


class Sources:
    """A configuration file and an environment; `load` reads them."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "config.toml"
        self.environment: dict[str, str] = {}

    def write(self, text: str, mode: int = 0o600) -> None:
        self.file.write_text(text)
        self.file.chmod(mode)

    def load(self, **flags: Any) -> Config:
        return load(flags, environment=self.environment, config_file=self.file)

    def refused(self, match: str, **flags: Any) -> OSError:
        with pytest.raises(OSError, match=match) as info:
            self.load(**flags)
        assert info.value.errno in (errno.EINVAL, errno.EACCES, errno.ENOENT)
        return info.value


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


# -- precedence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", sorted(config._ENVIRONMENT))
def test_flag_before_environment_before_profile_before_default(
    sources: Sources, setting: str
) -> None:
    choices = [each for each in config._CHOICES.get(setting, ()) if each]
    profile, environment, flag = (choices * 3)[:3] or ["profile", "environment", "flag"]
    assert getattr(sources.load(), setting) == ""
    sources.write(f'[default]\n{setting} = "{profile}"\n')
    assert getattr(sources.load(), setting) == profile
    sources.environment[config._ENVIRONMENT[setting]] = environment
    assert getattr(sources.load(), setting) == environment
    assert getattr(sources.load(**{setting: flag}), setting) == flag


def test_a_flag_that_was_not_given_and_an_empty_variable_hide_nothing(sources: Sources) -> None:
    sources.write('[default]\nurl = "profile"\n')
    sources.environment["FIRECREST_URL"] = ""
    assert sources.load(url=None).url == "profile"


def test_profiles(sources: Sources) -> None:
    sources.write('[default]\nurl = "one"\n[cscs]\nurl = "two"\nttl = 60\n')
    sources.environment["FIRECREST_PROFILE"] = "cscs"
    assert (sources.load().url, sources.load().ttl, sources.load().profile) == ("two", 60.0, "cscs")
    assert sources.load(profile="default").url == "one"
    assert sources.load(profile="default").ttl == 30.0


def test_a_profile_that_is_not_there(sources: Sources) -> None:
    sources.refused("the file doesn't exist", profile="cscs")
    sources.write('[a]\nurl = "x"\n[b]\nurl = "x"\n')
    assert "there are: a, b" in str(sources.refused("no profile", profile="cscs"))
    assert sources.load().url == ""


def test_settings_of_one_system(sources: Sources) -> None:
    sources.write(
        '[default]\nttl = 10\n[default.systems.daint]\nhome = "/users/me"\nnegative_ttl = 0\n'
    )
    loaded = sources.load()
    assert loaded.system("daint") == SystemConfig(home="/users/me", negative_ttl=0)
    assert loaded.system("eiger") == SystemConfig()


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("4k", 4096), ("1.5M", 3 << 19), ("10G", 10 << 30), ("2T", 2 << 40), ("0", 0)],
)
def test_sizes(sources: Sources, text: str, size: int) -> None:
    assert parse_size(text) == size
    assert sources.load(cache_size=text).cache_size == size


@pytest.mark.parametrize("text", ["", "G", "ten", "10GB", "1.5", "nanG", "infG", "-1", "-1G"])
def test_what_is_no_size(sources: Sources, text: str) -> None:
    sources.refused("cache_size", cache_size=text)


@pytest.mark.parametrize(
    ("value", "meant"),
    [(True, True), ("yes", True), ("ON", True), ("0", False), ("false", False), ("", True)],
)
def test_switches(sources: Sources, value: Any, meant: bool) -> None:
    assert sources.load(allow_other=value).allow_other is meant


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("allow_other", "perhaps"),
        ("ttl", "soon"),
        ("ttl", "-1"),
        ("ttl", "nan"),
        ("ttl", True),
        ("url", True),
        ("symlinks", "verbatm"),
        ("symlinks", ""),
        ("symlinks", True),
        ("fuse_binding", "fusepy"),
        ("fuse_binding", "no_such_binding"),
        ("fuse_binding", True),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(sources: Sources, setting: str, value: Any) -> None:
    """`-o ttl` and `-o url` without a value arrive as True."""
    sources.refused(setting, **{setting: value})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[default]\nurll = 'x'", "urll"),
        ("[default.systems.daint]\nhom = 'x'", "hom.*daint"),
        ("[default.systems.daint]\nttl = 'soon'", "ttl"),
        ("[default]\nsystems = 3", "systems"),
        ("[default.systems]\ndaint = 3", "systems must be tables"),
        ("default = 3", "default"),
        ("[default", "TOML"),
        ("\xff", "TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_named(sources: Sources, text: str, match: str) -> None:
    sources.file.write_bytes(text.encode("latin-1"))
    exc = sources.refused(f"(?s){match}")
    assert str(sources.file) in str(exc)


@pytest.mark.parametrize(("setting", "choices"), config._CHOICES.items())
def test_a_choice_is_refused_with_what_there_is(
    sources: Sources, setting: str, choices: tuple[str, ...]
) -> None:
    for each in choices:
        assert getattr(sources.load(**{setting: each}), setting) == each
    said = str(sources.refused(setting, **{setting: "sideways"}))
    assert "sideways" in said
    assert all(each in said for each in choices)


def test_a_time_of_a_system_may_be_text_like_any_other(sources: Sources) -> None:
    sources.write("[default]\nttl = '60'\n[default.systems.daint]\nttl = '90'\n")
    assert sources.load().ttl == 60.0
    assert sources.load().system("daint").ttl == 90.0


def test_unknown_flags_are_refused(sources: Sources) -> None:
    sources.refused("command line.*'ro'", ro=True)


def test_dashes_and_underscores_are_the_same(sources: Sources) -> None:
    sources.write('[default]\ncache-dir = "/x"\n')
    assert sources.load().cache_dir == "/x"


# -- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
@pytest.mark.parametrize("secret", ["client_secret", "token", "client-secret"])
def test_a_file_with_a_secret_is_for_its_owner_alone(
    sources: Sources, secret: str, mode: int
) -> None:
    sources.write(f'[default]\n{secret} = "s3cret"\n', mode)
    exc = sources.refused("chmod 600")
    assert exc.errno == errno.EACCES
    assert "s3cret" not in str(exc)
    sources.file.chmod(0o600)
    sources.load()


def test_a_file_without_secrets_may_be_read_by_all(sources: Sources) -> None:
    sources.write('[default]\nurl = "x"\n', 0o644)
    assert sources.load().url == "x"


def test_secrets_are_not_shown(sources: Sources) -> None:
    loaded = sources.load(url="https://x", client_secret="s3cret", token="t0ken")
    for text in (repr(loaded), str(loaded), f"{loaded}", repr([loaded])):
        assert "s3cret" not in text
        assert "t0ken" not in text
        assert "https://x" in text


# -- what a server needs -------------------------------------------------------------------------


def test_what_is_missing_is_named() -> None:
    with pytest.raises(OSError, match="FIRECREST_URL"):
        require_server(Config())
    with pytest.raises(OSError, match="FIRECREST_CLIENT_SECRET, AUTH_TOKEN_URL"):
        require_server(Config(url="https://x", client_id="me"))


@pytest.mark.parametrize("setting", ["token", "token_file", "token_command"])
def test_one_source_of_tokens_is_enough(setting: str) -> None:
    require_server(Config(url="https://x", **{setting: "y"}))


# -- where state lives ---------------------------------------------------------------------------


def test_servers_and_users_do_not_share_state() -> None:
    keys = {
        Config(url="https://a", client_id="me").key,
        Config(url="https://b", client_id="me").key,
        Config(url="https://a", client_id="you").key,
        Config(url="https://a", token_file="/t").key,
    }
    assert len(keys) == 4
    assert Config(url="https://a/", client_id="me").key in keys


def test_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    one = Config(url="https://a", client_id="me")
    assert one.local_state_dir.is_relative_to(tmp_path / "state")
    assert one.local_cache_dir.is_relative_to(tmp_path / "cache")
    assert config.default_config_file() == tmp_path / "config/firecrestfs/config.toml"
    assert Config(state_dir="~/s").local_state_dir == Path("~/s").expanduser()


def test_changing_a_token_changes_no_state() -> None:
    assert Config(url="u", token="one").key == Config(url="u", token="two").key


# -- how stores are made ---------------------------------------------------------------------------


def test_stores_settle_locally_and_keep_both_versions_unless_told_otherwise() -> None:
    found = Config()
    assert (found.write_through, found.fsync, found.conflict) == (False, "local", "copy")
    assert not found.atomic_store


@pytest.mark.parametrize(
    ("setting", "values"),
    [("fsync", ["local", "remote"]), ("conflict", ["copy", "ours", "theirs", "fail"])],
)
def test_choices_of_stores(sources: Sources, setting: str, values: list[str]) -> None:
    for value in values:
        assert getattr(sources.load(**{setting: value}), setting) == value
    assert f"one of {', '.join(values)}" in str(sources.refused(setting, **{setting: "maybe"}))


@pytest.mark.parametrize("setting", ["write_through", "atomic_store"])
def test_switches_of_stores(sources: Sources, setting: str) -> None:
    sources.write(f"[default]\n{setting} = true\n")
    assert getattr(sources.load(), setting) is True
    assert getattr(sources.load(**{setting: "no"}), setting) is False
    sources.refused(setting, **{setting: "perhaps"})
