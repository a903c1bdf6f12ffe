"""Where an upload is to be sent: v2's links to parts, v1's form, and both as a command line."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from .decode import pick
from .faults import refusal


class Form(NamedTuple):
    """Where v1 wants a file: a form with these fields, or, where there are none, a bare PUT."""

    url: str
    fields: dict[str, str] | None
    name: str


def form_of(message: Mapping[str, Any]) -> Form:
    """Return what a task's message of code 111 says."""
    told = message.get("parameters") or {}
    url = str(told.get("url", ""))
    name = str(told.get("files", "")).rpartition("/")[2] or "upload.bin"
    if told.get("method") == "PUT":
        query = urlencode(told.get("params") or {})
        return Form(url + (("&" if "?" in url else "?") + query if query else ""), None, name)
    return Form(
        url, {str(key): str(value) for key, value in (told.get("data") or {}).items()}, name
    )


class Links(NamedTuple):
    """Where the parts of an upload go, and what puts them together."""

    parts: Sequence[str]
    whole: str
    part_size: int


def links_of(told: Mapping[str, Any]) -> Links:
    """Return the links of an announced upload. Raises EBADMSG."""
    raw = pick(told, "transferDirectives", {})
    parts = [str(url) for url in pick(raw, "partsUploadUrls", []) or []]
    whole, size = str(pick(raw, "completeUploadUrl", "")), pick(raw, "maxPartSize", 0)
    if not parts or not whole or not size:
        raise refusal(errno.EBADMSG, "the server told no links for the upload", ambiguous=True)
    return Links(parts, whole, int(size))


def message_of(links: Links, local: str, size: int) -> dict[str, Any]:
    """Return what v1 calls `msg`: a command for a terminal, and what it is made of."""
    parameters = {
        "method": "PUT",
        "url": links.parts[0],
        "urls": list(links.parts),
        "complete_url": links.whole,
        "part_size": links.part_size,
        "files": local,
        "headers": {},
        "data": {},
        "json": {},
        "params": {},
    }
    return {"command": _command(links, local, size), "parameters": parameters}


def _command(links: Links, local: str, size: int) -> str:
    """Return one command that sends all parts with curl and puts them together."""
    curl, name = "curl -fsS -H 'Content-Type:'", shlex.quote(local)
    lines, xml = ["set -e -o pipefail"], ""
    for number, url in enumerate(links.parts, 1):
        start = (number - 1) * links.part_size
        length = min(links.part_size, size - start)
        lines.append(
            f"e{number}=$(tail -c +{start + 1} {name} | head -c {length} | {curl} -X PUT"
            f" --data-binary @- -o /dev/null -D - {shlex.quote(url)}"
            " | tr -d '\\r' | sed -n 's/^[Ee][Tt][Aa][Gg]: *//p')"
        )
        xml += f"<Part><PartNumber>{number}</PartNumber><ETag>$e{number}</ETag></Part>"
    whole = f'"<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>"'
    lines.append(f"{curl} -X POST --data-binary {whole} {shlex.quote(links.whole)}")
    return "bash -c " + shlex.quote("\n".join(lines))
