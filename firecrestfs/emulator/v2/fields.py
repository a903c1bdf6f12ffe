"""Reads query parameters and JSON bodies, with the real validator's complaints."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from flask import g, request

from .answers import Invalid, field_error

_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}
_MISSING = object()

REQUIRED = "Field required"
NO_OBJECT = "Input should be a valid dictionary or object to extract fields from"
_BAD_BOOL = "Input should be a valid boolean, unable to interpret input"
BAD_INT = "Input should be a valid integer, unable to parse string as an integer"


def arguments() -> dict[str, str]:
    """Return the query parameters; of a repeated one the last, bytes that are no UTF-8 replaced."""
    if not hasattr(g, "arguments"):
        raw = request.environ.get("QUERY_STRING", "")
        g.arguments = dict(urllib.parse.parse_qsl(raw, keep_blank_values=True))
    return dict(g.arguments)


def read_json() -> Any:
    """Return the JSON body or None. Broken JSON is refused even before the token is seen."""
    raw = request.get_data()
    if not raw or "json" not in request.headers.get("Content-Type", "").lower():
        return None
    try:
        return json.loads(raw)
    except json.JSONDecodeError as exc:
        raise Invalid([field_error("body", exc.pos, "JSON decode error")], early=True) from exc
    except UnicodeDecodeError as exc:
        raise Invalid([field_error("body", exc.start, "JSON decode error")], early=True) from exc


class _Fields:
    """Collects the complaints about one request, so that all are reported at once."""

    def __init__(self) -> None:
        self._errors: list[dict[str, Any]] = []

    def complain(self, location: str, name: object, message: str) -> None:
        """Add one complaint."""
        self._errors.append(field_error(location, name, message))

    def done(self) -> None:
        """Raise Invalid if there were complaints. Call it before using any value."""
        if self._errors:
            raise Invalid(self._errors)


class Query(_Fields):
    """Query parameters."""

    def text(self, name: str) -> str:
        """Return a required parameter."""
        value = arguments().get(name)
        if value is None:
            self.complain("query", name, REQUIRED)
        return value or ""

    def optional(self, name: str, longest: int | None = None) -> str | None:
        """Return a parameter or None."""
        value = arguments().get(name)
        if value is not None and longest is not None and len(value) > longest:
            self.complain("query", name, f"String should have at most {longest} characters")
        return value

    def boolean(self, name: str) -> bool:
        """Return a switch, off by default."""
        value = arguments().get(name)
        if value is None:
            return False
        if value.lower() not in _TRUE | _FALSE:
            self.complain("query", name, _BAD_BOOL)
        return value.lower() in _TRUE

    def integer(self, name: str, default: int | None = None) -> int | None:
        """Return a number or *default*."""
        value = arguments().get(name)
        if value is None:
            return default
        if not re.fullmatch(r"\s*[-+]?\d+(\.0*)?\s*", value):
            self.complain("query", name, BAD_INT)
            return default
        return int(value.split(".")[0])

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """Return one of *choices* or None."""
        value = arguments().get(name)
        if value is not None and value not in choices:
            self.complain("query", name, f"Input should be {alternatives(choices)}")
        return value


def alternatives(choices: tuple[str, ...]) -> str:
    """Write a list of choices as the validator does: 'a', 'b' or 'c'."""
    quoted = [f"'{choice}'" for choice in choices]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


class Body(_Fields):
    """A JSON object. Every field may be spelled in camelCase or snake_case.

    `parent` is the name of the enclosing field: complaints about nested fields name only that one.
    """

    def __init__(self, json_body: Any, parent: str | None = None) -> None:
        super().__init__()
        self._parent = parent
        self._values: Mapping[str, Any] = json_body if isinstance(json_body, dict) else {}
        if json_body is None:
            raise Invalid([field_error("body", None, REQUIRED)])
        if not isinstance(json_body, dict):
            raise Invalid([field_error("body", parent, NO_OBJECT)])

    def path(self) -> str:
        """Return the path that the request is about, by any of its names."""
        for name in ("sourcePath", "source_path", "path"):
            if name in self._values:
                return self._string("sourcePath", self._values[name]) or ""
        return self.text("sourcePath")

    def text(self, name: str, default: object = _MISSING) -> str:
        """Return a string; required without *default*. null is no string."""
        value = self._get(name)
        if value is _MISSING:
            value = default
        if value is _MISSING:
            self.complain("body", self._parent or name, REQUIRED)
            return ""
        return self._string(name, value) or ""

    def optional(self, name: str) -> str | None:
        """Return a string or None; null counts as absent."""
        value = self._get(name)
        return None if value is _MISSING or value is None else self._string(name, value)

    def boolean(self, name: str) -> bool:
        """Return a switch, off by default; strings are read as in queries."""
        value = self._get(name)
        if value is _MISSING or isinstance(value, bool):
            return value is True
        if isinstance(value, (str, int, float)):
            if str(value).lower() not in _TRUE | _FALSE:
                self.complain("body", self._parent or name, _BAD_BOOL)
            return str(value).lower() in _TRUE
        self.complain("body", self._parent or name, "Input should be a valid boolean")
        return False

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """Return one of *choices*."""
        value = self._get(name)
        if value is _MISSING:
            return default
        if value not in choices:
            self.complain("body", self._parent or name, f"Input should be {alternatives(choices)}")
        return str(value)

    def raw(self, name: str, default: Any = None) -> Any:
        """Return a value of any type, *default* if absent."""
        value = self._get(name)
        return default if value is _MISSING else value

    def required(self, name: str) -> Any:
        """Return a value of any type. Raises Invalid if absent."""
        value = self._get(name)
        if value is _MISSING:
            raise Invalid([field_error("body", name, REQUIRED)])
        return value

    def _get(self, name: str) -> Any:
        snake = re.sub(r"([A-Z])", lambda match: "_" + match.group().lower(), name)
        return self._values.get(name, self._values.get(snake, _MISSING))

    def _string(self, name: str, value: object) -> str | None:
        if isinstance(value, str):
            return value
        self.complain("body", self._parent or name, "Input should be a valid string")
        return None
