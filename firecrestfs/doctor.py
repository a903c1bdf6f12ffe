"""`firecrestfs doctor`: what a mount needs, checked one by one, each failure with its remedy."""

from __future__ import annotations

import email.utils
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import config as settings
from . import mountpoints
from .binding import describe_binding, load_binding
from .config import Config

#: A clock that is off by more (seconds) makes fresh tokens look expired or not yet valid.
_CLOCK_S = 20.0


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check; `text` says what was found, or what to do."""

    name: str
    ok: bool
    text: str


def run(overrides: Mapping[str, Any]) -> list[Check]:
    """Run all checks; those that need what failed before are left out."""
    results = [
        _check("FUSE in the kernel", _device),
        _check("FUSE's mount helper", _helper),
        _check("FUSE binding", _binding),
    ]
    loaded: list[Config] = []

    def configured() -> str:
        found = settings.load(overrides)
        settings.require_server(found)
        loaded.append(found)
        return found.url

    results.append(_check("configuration", configured))
    if loaded:
        results += _server_checks(loaded[0])
    return results


def versions() -> list[str]:
    """Return what the program stands on, a line each."""
    lines = [f"python {platform.python_version()}"]
    for name in ("fusepy", "mfusepy", "requests"):
        try:
            lines.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        lines.append(f"FUSE: {describe_binding(load_binding())}")
    except OSError as exc:
        lines.append(f"FUSE: {exc.strerror}")
    return lines


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except OSError as exc:
        return Check(name, False, exc.strerror or str(exc))


def _device() -> str:
    mountpoints.require_fuse()
    return "/dev/fuse is there"


def _helper() -> str:
    found = shutil.which("fusermount3") or shutil.which("fusermount")
    if found is None and os.getuid() != 0:
        raise OSError(2, "fusermount3 is missing: install the package fuse3")
    return found or "not needed by root"


def _binding() -> str:
    return describe_binding(load_binding())


def _server_checks(config: Config) -> list[Check]:
    from .mount import make_client

    try:
        client = make_client(config)
    except OSError as exc:
        return [Check("credentials", False, exc.strerror or str(exc))]

    def systems() -> str:
        found = client.systems()
        troubled = [f"{each.name}: {each.problem}" for each in found if each.problem]
        if troubled:
            raise OSError(5, "; ".join(troubled))
        return ", ".join(each.name for each in found)

    return [
        _check("server reachable, token accepted", systems),
        _check("clock", lambda: _clock(client.server_date())),
    ]


def _clock(server_date: str) -> str:
    """Compare this machine's clock with the `Date` of an answer."""
    try:
        told = email.utils.parsedate_to_datetime(server_date).timestamp()
    except (ValueError, TypeError):
        return "the server doesn't tell the time"
    off = time.time() - told
    if abs(off) > _CLOCK_S:
        raise OSError(
            22,
            f"this machine's clock is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}: tokens "
            "will be refused; turn on time synchronisation (timedatectl set-ntp true)",
        )
    return f"agrees with the server's within {abs(off) + 1:.0f} s"
