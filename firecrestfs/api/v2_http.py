"""How requests to FirecREST v2 are sent, and how its answers are taken apart."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote as url_quote

from .faults import SystemUnknown, refusal
from .session import Answer, ApiSession, Body, Request

#: The slowest line that a direct transfer is given time for, in bytes per second.
SLOWEST = 32 * 1024


class SenderV2:
    """Sends requests to one FirecREST v2 server."""

    def __init__(self, session: ApiSession) -> None:
        self._session = session

    def _endpoint(self, template: str, system: str = "", job_id: str = "") -> str:
        if "{system}" in template and not re.fullmatch(r"[\w.-]+", system, re.ASCII):
            raise SystemUnknown(errno.ENODEV, f"no system can have this name: {system!r}")
        if "{id}" in template and not re.fullmatch(r"[A-Za-z0-9]+", job_id):
            text = f"not a job id that FirecREST takes (letters and digits only): {job_id!r}"
            raise refusal(errno.EINVAL, text)
        filled = template.replace("{system}", url_quote(system, safe=""))
        return filled.replace("{id}", url_quote(job_id, safe=""))

    def _get(self, template: str, system: str = "", job_id: str = "", params: Any = None) -> Answer:
        endpoint = self._endpoint(template, system, job_id)
        return self._session.request(
            Request("GET", endpoint, template, params or {}, idempotent=True, mutating=False)
        )

    def _read(
        self, operation: str, system: str, path: str, params: Mapping[str, str] | None = None
    ) -> Answer:
        template = "/filesystem/{system}/ops/" + operation
        request = Request(
            "GET",
            self._endpoint(template, system),
            template,
            {"path": path, **(params or {})},
            idempotent=True,
            mutating=False,
            path=path,
        )
        return self._session.request(request)

    def _change(self, method: str, operation: str, system: str, path: str, **how: Any) -> Answer:
        template = "/filesystem/{system}/ops/" + operation
        return self._send(method, template, system, path=path, **how)

    def _send(
        self,
        method: str,
        template: str,
        system: str,
        job_id: str = "",
        *,
        path: str | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: Body | None = None,
        again: bool = False,
        deadline_s: float | None = None,
    ) -> Answer:
        request = Request(
            method,
            self._endpoint(template, system, job_id),
            template,
            params or {},
            json,
            body,
            idempotent=again,
            path=path,
            deadline_s=deadline_s,
        )
        return self._session.request(request)


def flag(value: bool) -> str:
    """Return a boolean as v2 reads it."""
    return "true" if value else "false"


def amount(size: int, lines: int) -> dict[str, str]:
    """Return the parameters for bytes or lines. Raises EINVAL for both."""
    if size and lines:
        raise refusal(errno.EINVAL, "bytes or lines, not both")
    return {"bytes": str(size)} if size else {"lines": str(lines)} if lines else {}


def odd(answer: Answer) -> Exception:
    """Return the error for an answer that isn't in any form that v2 has."""
    text = f"{answer.request.template}: the answer has an unexpected form"
    return refusal(errno.EBADMSG, text, answer.request.path, ambiguous=answer.request.mutating)


def value_of(answer: Answer, key: str) -> Any:
    """Return one key of an answer, or all of it for no key. Raises EBADMSG."""
    found = answer.json()
    if not key:
        return found
    if not isinstance(found, dict) or key not in found:
        raise odd(answer)
    return found[key]


def list_of(answer: Answer, key: str) -> list[dict[str, Any]]:
    """Return a list of objects. Raises EBADMSG."""
    found = value_of(answer, key)
    if found is None:  # old servers say null for none
        return []
    if not isinstance(found, list):
        raise odd(answer)
    return [item for item in found if isinstance(item, dict)]


def dict_of(answer: Answer, key: str = "") -> dict[str, Any]:
    """Return an object. Raises EBADMSG."""
    found = value_of(answer, key)
    if not isinstance(found, dict):
        raise odd(answer)
    return found


def text_of(answer: Answer, key: str) -> str:
    """Return a text. Raises EBADMSG."""
    found = value_of(answer, key)
    if not isinstance(found, str):
        raise odd(answer)
    return found
