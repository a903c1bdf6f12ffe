"""`transferDirectives`: what a staged transfer asks for, with the real validator's complaints.

The validator tries each method's model and, when none fits, complains about all of them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .fields import BAD_INT, NO_OBJECT, REQUIRED, Body

_BAD_STRING = "Input should be a valid string"


class Directives(NamedTuple):
    """The method, and what it needs."""

    method: str
    file_size: int | None = None


class _Model:
    """One attempt to read the directives as those of one method."""

    def __init__(self, method: str, values: Any) -> None:
        self.method = method
        self.complaints: list[str] = []
        self._values = values if isinstance(values, dict) else {}
        if not isinstance(values, dict):
            self.complaints.append(NO_OBJECT)
            return
        given = self.get("transferMethod", "transfer_method")
        if given is None:
            self.complaints.append(REQUIRED)
        elif given != method:
            self.complaints.append(f"Input should be <DataTransferType.{method}: '{method}'>")

    def get(self, *names: str) -> Any:
        """Return the value of a field by any of its names, None if it is absent."""
        return next((self._values[name] for name in names if name in self._values), None)

    def file_size(self) -> int | None:
        """Read the size: a number, or a string of digits."""
        value = self.get("fileSize", "file_size")
        if value is None or isinstance(value, int):
            return value
        if isinstance(value, float) and value == int(value):
            return int(value)
        if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+(\.0*)?\s*", value):
            return int(value.split(".")[0])
        self.complaints.append(BAD_INT)
        return None

    def code(self) -> None:
        """Check the code of a wormhole."""
        value = self.get("wormholeCode", "wormhole_code")
        if not isinstance(value, str):
            self.complaints.append(REQUIRED if value is None else _BAD_STRING)


def read_directives(body: Body, *, upload: bool) -> Directives:
    """Return the directives of a request; complain to *body* if they fit no method."""
    values = body.raw("transferDirectives", body)  # something that can't be in JSON
    if values is body:
        body.complain("body", "transferDirectives", REQUIRED)
        return Directives("")
    complaints: list[str] = []
    for method in ("wormhole", "s3", "streamer"):
        model = _Model(method, values)
        size = model.file_size() if method == "s3" and isinstance(values, dict) else None
        if method == "wormhole" and upload and isinstance(values, dict):
            model.code()
        if not model.complaints:
            return Directives(method, size)
        complaints += model.complaints
    for words in complaints:
        body.complain("body", "transferDirectives", words)
    return Directives("")
