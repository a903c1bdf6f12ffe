"""Config: everything that can be set, from flags, the environment, a profile, and defaults.

This is the only reader of the environment and of `config.toml`. Precedence: flag, environment,
profile, default.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .errors import os_error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Where each setting comes from in the environment.
_ENVIRONMENT = {
    "url": "FIRECREST_URL",
    "client_id": "FIRECREST_CLIENT_ID",
    "client_secret": "FIRECREST_CLIENT_SECRET",
    "token_url": "AUTH_TOKEN_URL",
    "api_version": "FIRECREST_API_VERSION",
    "default_system": "FIRECREST_SYSTEM",
    "token_file": "FIRECREST_TOKEN_FILE",
    "token_command": "FIRECREST_TOKEN_COMMAND",
    "token": "FIRECREST_TOKEN",
    "fuse_binding": "FIRECRESTFS_FUSE",
    "fault": "FIRECRESTFS_FAULT",
}
_SECRETS = ("client_secret", "token")
#: What says who we are; the rest can't change while something is mounted.
CREDENTIALS = frozenset(
    {"client_id", "client_secret", "token_url", "token_file", "token_command", "token", "scope"}
)


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """What is set for one system; empty or None: found out, or the general setting."""

    home: str = ""
    scratch: str = ""
    zone: str = ""
    ttl: float | None = None
    negative_ttl: float | None = None


@dataclass(frozen=True)
class Config:
    """All settings of one server's mount. Times are seconds, sizes bytes."""

    url: str = ""
    api_version: str = ""
    client_id: str = ""
    client_secret: str = ""
    token_url: str = ""
    token_file: str = ""
    token_command: str = ""
    token: str = ""
    scope: str = ""
    default_system: str = ""
    allow_http: bool = False
    ttl: float = 30.0
    negative_ttl: float = 5.0
    op_timeout: float = 60.0
    write_back: float = 1.0
    drain_timeout: float = 300.0
    cache_size: int = 10 << 30
    cache_dir: str = ""
    state_dir: str = ""
    write_through: bool = False  # every close stores its file
    fsync: str = "local"  # fsync returns when this machine, or (`remote`) the cluster, has it
    conflict: str = "copy"  # what becomes of ours where the remote file changed as well
    atomic_store: bool = False  # a new file renamed over the old one: a new inode
    symlinks: str = "inside"
    verify: bool = False  # prove large files by their checksum, too
    hydrate: str = "auto"  # who may have large files staged by reading them
    allow_other: bool = False
    fuse_binding: str = ""
    fault: str = ""
    profile: str = ""
    systems: Mapping[str, SystemConfig] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show no secrets."""
        shown = (
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if each.name not in _SECRETS
        )
        return f"Config({', '.join(shown)})"

    def system(self, name: str) -> SystemConfig:
        """Return what is set for the system *name*."""
        return self.systems.get(name, SystemConfig())

    @property
    def key(self) -> str:
        """A short name for this server and user on this machine: the state belongs to it."""
        who = self.client_id or self.token_file or self.token_command or "token"
        text = "\0".join((self.url.rstrip("/"), who, _machine_id()))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def local_state_dir(self) -> Path:
        """Where changes wait to be stored; survives reboots."""
        if self.state_dir:
            return Path(self.state_dir).expanduser()
        return state_home() / "servers" / self.key

    @property
    def local_cache_dir(self) -> Path:
        """Where clean copies are kept; may be deleted at any time."""
        if self.cache_dir:
            return Path(self.cache_dir).expanduser()
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(base).expanduser() / "firecrestfs" / self.key


def load(
    overrides: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    config_file: Path | None = None,
) -> Config:
    """Return the configuration; *overrides* are the flags that were given (None: not given).

    Raises EINVAL with the file, the name and what is wrong with it.
    """
    env = os.environ if environment is None else environment
    profile = overrides.get("profile") or env.get("FIRECREST_PROFILE") or ""
    config = replace(_from_profile(profile, config_file or default_config_file()), profile=profile)
    config = _with(
        config,
        {key: env[name] for key, name in _ENVIRONMENT.items() if env.get(name)},
        "environment",
    )
    given = {key: value for key, value in overrides.items() if value is not None}
    return _with(config, given, "command line")


def default_config_file() -> Path:
    """Return the path of `config.toml`."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "firecrestfs" / "config.toml"


def state_home() -> Path:
    """Return the directory for everything of ours that must survive."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "firecrestfs"


def require_server(config: Config) -> None:
    """Raise EINVAL, with the remedy, where *config* doesn't say which server and who we are."""
    if not config.url:
        raise os_error(
            errno.EINVAL,
            None,
            "which FirecREST? Set FIRECREST_URL, or `url` of a profile in "
            f"{default_config_file()} (to try without a server: firecrestfs demo)",
        )
    if config.token or config.token_file or config.token_command:
        return
    missing = [
        name
        for key, name in (
            ("client_id", "FIRECREST_CLIENT_ID"),
            ("client_secret", "FIRECREST_CLIENT_SECRET"),
            ("token_url", "AUTH_TOKEN_URL"),
        )
        if not getattr(config, key)
    ]
    if missing:
        raise os_error(
            errno.EINVAL,
            None,
            f"no credentials: set {', '.join(missing)}, or FIRECREST_TOKEN_FILE, "
            "or FIRECREST_TOKEN_COMMAND",
        )


def _from_profile(name: str, path: Path) -> Config:
    if not path.exists():
        if name:
            raise os_error(errno.ENOENT, str(path), f"no profile {name!r}: the file doesn't exist")
        return Config()
    try:
        tables = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise os_error(errno.EINVAL, str(path), f"not valid TOML: {exc}") from None
    table = tables.get(name or "default")
    if table is not None and not isinstance(table, dict):
        raise os_error(errno.EINVAL, str(path), f"{name or 'default'} must be a table: [default]")
    if table is None:
        if name:
            known = ", ".join(sorted(tables)) or "none"
            raise os_error(errno.ENOENT, str(path), f"no profile {name!r}; there are: {known}")
        return Config()
    if any(key.replace("-", "_") in _SECRETS for key in table):
        _require_private(path)
    return _with(Config(), table, str(path))


def _require_private(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise os_error(
            errno.EACCES, str(path), f"it holds a secret and others can read it: chmod 600 {path}"
        )


def _with(config: Config, values: Mapping[str, Any], where: str) -> Config:
    known = {each.name: each.type for each in fields(Config)}
    changes: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name == "systems":
            changes[name] = _systems(value, where)
        elif name in known:
            changes[name] = _convert(name, str(known[name]), value, where)
        else:
            raise os_error(errno.EINVAL, None, f"{where}: unknown setting {key!r}")
    return replace(config, **changes)


def _systems(value: Any, where: str) -> dict[str, SystemConfig]:
    if not isinstance(value, dict):
        value = {"NAME": value}
    wrong = [name for name, table in value.items() if not isinstance(table, dict)]
    if wrong:
        raise os_error(
            errno.EINVAL, None, f"{where}: systems must be tables: [….systems.{wrong[0]}]"
        )
    return {name: _system(name, table, where) for name, table in value.items()}


def _system(name: str, table: Mapping[str, Any], where: str) -> SystemConfig:
    known = {each.name: str(each.type) for each in fields(SystemConfig)}
    unknown = set(table) - set(known)
    if unknown:
        raise os_error(
            errno.EINVAL, None, f"{where}: unknown setting {sorted(unknown)[0]!r} of system {name}"
        )
    return SystemConfig(
        **{key: _convert(key, known[key], value, where) for key, value in table.items()}
    )


def _convert(name: str, kind: str, value: Any, where: str) -> Any:
    choices = _CHOICES.get(name)
    try:
        if kind == "bool":
            return value if isinstance(value, bool) else _TRUTH[str(value).lower()]
        if isinstance(value, bool):
            raise ValueError(name)
        if kind == "int":
            return parse_size(str(value))
        if kind.startswith("float"):
            return _seconds(value)
        if choices and value not in choices:
            raise ValueError(name)
    except (ValueError, KeyError, OverflowError):
        wanted = f": one of {', '.join(choices)}" if choices else ""
        raise os_error(errno.EINVAL, None, f"{where}: {name} can't be {value!r}{wanted}") from None
    return str(value)


def _seconds(value: Any) -> float:
    found = float(value)
    if not 0 <= found < float("inf"):
        raise ValueError(value)
    return found


_CHOICES = {
    "symlinks": ("inside", "verbatim"),
    "hydrate": ("auto", "always", "explicit"),
    "fsync": ("local", "remote"),
    "conflict": ("copy", "ours", "theirs", "fail"),
    "fuse_binding": ("", "mfusepy", "fuse"),
}
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "": True,
          "0": False, "false": False, "no": False, "off": False}  # fmt: skip


def parse_size(text: str) -> int:
    """Return the bytes that *text* means: `10G`, `512M`, `4096`. Raises `ValueError`."""
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    unit = text[-1:].upper()
    found = int(float(text[:-1]) * (1 << units[unit])) if unit in units else int(text)
    if found < 0:
        raise ValueError(text)
    return found


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return socket.gethostname()
