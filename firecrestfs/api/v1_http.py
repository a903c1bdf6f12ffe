"""How requests to FirecREST v1 look: form fields, the system in a header, paths it would alter."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ..errors import FirecrestException
from .fault_v1 import fault_v1, said
from .faults import SystemUnknown, refusal
from .names import checked_path, checked_text
from .session import Answer, ApiSession, Body, Request

#: Characters that no path, name, mode, owner or account may hold: v1 refuses them, or, worse,
#: drops or replaces them on the way.
FORBIDDEN = frozenset("<>|;\"'&\\()`") | {chr(code) for code in range(32)}

#: What some systems' login nodes turn into one space.
SPACES = "  "
#: A path that is nowhere, to see what becomes of spaces.
_PROBE = f"/.firecrest{SPACES}spaces"
#: The slowest line that a direct transfer is given time for, in bytes per second.
SLOWEST = 32 * 1024


def fit(text: str, what: str = "the path") -> str:
    """Return *text* if v1 takes it unchanged. Raises EINVAL, naming the character."""
    checked_text(text, what)
    for character in text:
        if character in FORBIDDEN:
            shown = character if character.isprintable() else f"control character {ord(character)}"
            line = f"{what} holds {shown}, which FirecREST v1 can't pass on"
            raise refusal(errno.EINVAL, line, text)
    return text


def fit_path(path: str, *, slash: bool = False) -> str:
    """Return *path* as `checked_path` does if v1 can address it."""
    return fit(checked_path(path, slash=slash))


class Form:
    """A body of form fields."""

    content_type = "application/x-www-form-urlencoded"

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._encoded = urlencode(fields).encode()

    def open(self) -> bytes:
        """Return the whole body."""
        return self._encoded


class Sender:
    """Sends requests to one FirecREST v1 server."""

    def __init__(self, session: ApiSession) -> None:
        self._session = session
        self._spaces: dict[str, bool] = {}

    def _status(self, endpoint: str, *, fresh: bool = False) -> Any:
        """Return `out` of a status page; *fresh*: not one that is up to 16 minutes old."""
        headers = {"Cache-Control": "no-cache"} if fresh else {}
        request = Request(
            "GET",
            endpoint,
            endpoint,
            headers=headers,
            idempotent=True,
            mutating=False,
            faults=fault_v1,
        )
        return value_of(self._session.request(request), "out")

    def _read(
        self,
        operation: str,
        system: str,
        params: Mapping[str, str],
        *,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
        **limits: Any,
    ) -> Answer:
        """Send a GET to the utilities."""
        return self._ask("/utilities/" + operation, system, params, path, headers, **limits)

    def keeps_spaces(self, system: str) -> bool:
        """Tell whether several spaces in a row reach the system's tools; asks once.

        The wrapper that FirecREST comes with, for the login node, makes one of them, so that a
        request about `a  b` would remove, replace or read `a b`. A tool that complains about a
        path that isn't there shows what became of it.
        """
        if system not in self._spaces:
            try:
                self._send_get("/utilities/stat", system, {"targetPath": _PROBE}, _PROBE, None)
                self._spaces[system] = False
            except FirecrestException as exc:
                words = said(exc)
                if not words.startswith("stat: "):
                    raise
                self._spaces[system] = _PROBE in words
        return self._spaces[system]

    def _require_kept(self, system: str, *texts: str | None) -> None:
        for text in texts:
            if text is not None and SPACES in text and not self.keeps_spaces(system):
                line = "several spaces in a row arrive as one on this system"
                raise refusal(errno.EINVAL, line, text)

    def _ask(
        self,
        template: str,
        system: str,
        params: Mapping[str, str],
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
        **limits: Any,
    ) -> Answer:
        self._require_kept(system, *params.values())
        return self._send_get(template, system, params, path, headers, **limits)

    def _send_get(
        self,
        template: str,
        system: str,
        params: Mapping[str, str],
        path: str | None,
        headers: Mapping[str, str] | None,
        **limits: Any,
    ) -> Answer:
        request = Request(
            "GET",
            template,
            template,
            params,
            headers={"X-Machine-Name": _machine(system), **(headers or {})},
            idempotent=True,
            mutating=False,
            path=path,
            faults=fault_v1,
            **limits,
        )
        return self._session.request(request)

    def _change(
        self,
        method: str,
        template: str,
        system: str,
        body: Body | Mapping[str, str],
        *,
        path: str | None = None,
        endpoint: str = "",
        again: bool = False,
        deadline_s: float | None = None,
    ) -> Answer:
        """Send what changes something; *again*: it may be sent twice."""
        fields = body.values() if isinstance(body, Mapping) else ()
        self._require_kept(system, path, *fields)
        request = Request(
            method,
            endpoint or template,
            template,
            body=Form(body) if isinstance(body, Mapping) else body,
            headers={"X-Machine-Name": _machine(system)},
            idempotent=again,
            path=path,
            deadline_s=deadline_s,
            faults=fault_v1,
        )
        return self._session.request(request)


def _machine(system: str) -> str:
    if not re.fullmatch(r"[\w.-]+", system, re.ASCII):
        raise SystemUnknown(errno.ENODEV, f"no system can have this name: {system!r}")
    return system


def flag(value: bool) -> str:
    """Return a boolean as v1 reads it."""
    return "true" if value else "false"


def value_of(answer: Answer, key: str) -> Any:
    """Return one key of a JSON object. Raises EBADMSG."""
    found = answer.json()
    if not isinstance(found, dict) or key not in found:
        raise odd(answer)
    return found[key]


def text_of(answer: Answer) -> str:
    """Return `output` where it is text. Raises EBADMSG."""
    found = value_of(answer, "output")
    if not isinstance(found, str):
        raise odd(answer)
    return found


def odd(answer: Answer) -> Exception:
    """Return the error for an answer that isn't in any form that v1 has."""
    asked = answer.request
    text = f"{asked.template}: the answer has an unexpected form"
    return refusal(errno.EBADMSG, text, asked.path, ambiguous=asked.mutating)
