"""Everything about the emulated site that can be set, in one table.

A knob is a field of `Knobs`: its type, default and help text are the field's. Values arrive as
text (`--set NAME=VALUE`) or as JSON (`POST /_emulator/set`) and are checked by `Knobs.put`; the
rest of the emulator reads plain attributes, at each call anew, so every change is live.
"""

from __future__ import annotations

import dataclasses
import zoneinfo
from collections.abc import Iterator
from typing import Any, NamedTuple

_TRUE = {"1", "true", "yes", "on", "t", "y"}
_FALSE = {"0", "false", "no", "off", "f", "n"}


def _knob(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices})


class KnobRow(NamedTuple):
    """One row of the table of knobs, for help texts."""

    name: str
    type: str
    default: object
    help: str


@dataclasses.dataclass
class Knobs:
    """The settings of a site. Fields are read without a lock: each is one reference."""

    latency: float = _knob(0.0, "milliseconds that every API call takes on top")
    token_latency: float = _knob(0.0, "milliseconds that every token request takes on top")
    max_ops_file_size: int = _knob(5 * 1024 * 1024, "bytes one call may carry (the 'direct' limit)")
    command_seconds: float = _knob(5.0, "time limit of every command on the login node")
    token_ttl: float = _knob(300.0, "seconds a new token lives")
    min_token_ttl: float = _knob(30.0, "seconds of life a token must have left to be accepted")
    poll_interval: float = _knob(60.0, "seconds between two looks of a transfer job at the store")
    max_part_size: int = _knob(1024**3, "bytes of one part of a staged transfer")
    url_ttl: int = _knob(604800, "seconds a presigned URL lives")
    store_latency: float = _knob(
        0.0, "milliseconds that every call to the object store takes on top"
    )
    late_objects: float = _knob(0.0, "seconds until a stored object can be seen")
    min_part_size: int = _knob(5 * 1024 * 1024, "least bytes of a part of an object but the last")
    store_url: str = _knob("", "another S3 server to stage by, from the start on; empty: our own")
    object_days: float = _knob(10.0, "days until the object store removes an object")
    complete_twice: bool = _knob(False, "completing an upload again is fine; else NoSuchUpload")
    queue_seconds: float = _knob(0.5, "how long a job stays PENDING although a slot is free")
    slots: int = _knob(4, "jobs that run at the same time")
    accounting_delay: float = _knob(0.0, "seconds during which a new job answers 404")
    half_known: float = _knob(
        0.0, "seconds during which accounting knows a started job by its first step only"
    )
    kill_seconds: float = _knob(2.0, "seconds between SIGTERM and SIGKILL for a cancelled job")
    time_limit: float = _knob(3600.0, "seconds a job may run that asks for no limit")
    zone: str = _knob("Europe/Zurich", "time zone of the cluster")
    locale: str = _knob("utf8", "character set of the login node", ("utf8", "c"))
    umask: str = _knob("022", "umask of the login shell, octal")
    banner: str = _knob("", "text that the login shell prints before the output of every command")
    quota: int = _knob(-1, "bytes the user may hold in all; -1: no limit")
    disk_full: bool = _knob(False, "every write fails with 'No space left on device'")
    probing: bool = _knob(True, "health checks run, and with them the path rules apply")
    unhealthy: str = _knob(
        "", "services reported unhealthy: ssh, scheduler or file systems, by comma"
    )
    needs_account: bool = _knob(False, "transfer jobs demand an account")
    noise: str = _knob("", "v1: text on stderr of every command; calls fail after they have acted")
    wrapper: bool = _knob(True, "v1: the login node's wrapper makes one space of several in a row")
    open_gateway: bool = _knob(False, "v1: the gateway lets through what the published one doesn't")
    status_cache: float = _knob(960.0, "v1: seconds that answers below /status are kept")
    server_version: str = _knob("1.16.6", "v1: FIRECREST_VERSION; may be empty; '-': not published")

    def put(self, name: str, value: object) -> None:
        """Set one knob from text or JSON. Raises ValueError with a readable reason."""
        if name not in _FIELDS:
            raise ValueError(f"unknown setting {name!r}; known: {', '.join(_FIELDS)}")
        checked = _convert(name, value)
        setattr(self, name, checked)

    @property
    def umask_bits(self) -> int:
        """The umask as a number."""
        return int(self.umask, 8)

    @property
    def unhealthy_services(self) -> frozenset[str]:
        """Names of the services that the health check is to report as down."""
        return frozenset(name.strip() for name in self.unhealthy.split(",") if name.strip())

    def as_dict(self) -> dict[str, object]:
        """All settings by name."""
        return dataclasses.asdict(self)


_FIELDS = {field.name: field for field in dataclasses.fields(Knobs)}


def table() -> Iterator[KnobRow]:
    """Yield the table of knobs in its written order."""
    for field in _FIELDS.values():
        yield KnobRow(field.name, str(field.type), field.default, field.metadata["help"])


def _convert(name: str, value: object) -> object:
    kind = str(_FIELDS[name].type)
    try:
        checked = _PARSERS[kind](value)
        _check(name, checked)
    except (ValueError, TypeError, zoneinfo.ZoneInfoNotFoundError) as exc:
        raise ValueError(f"{name} = {value!r}: {exc or 'not a ' + kind}") from exc
    return checked


def _check(name: str, value: object) -> None:
    choices = _FIELDS[name].metadata["choices"]
    if choices and value not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    if name == "zone":
        zoneinfo.ZoneInfo(str(value))
    if name == "umask":
        int(str(value), 8)


def _parse_bool(value: object) -> bool:
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("must be true or false")


_PARSERS: dict[str, Any] = {"float": float, "int": int, "str": str, "bool": _parse_bool}
