"""Faults on demand: rules that say which request goes wrong, and how.

A rule names requests by a glob over endpoint names ("ops/upload", "jobs/*", "*") and is used up
after `count` applications. Requests to the object store are "store/get", "store/part" and so on;
those of transfer jobs to it "job/get" and so on. The web layer asks `FaultBoard.take` once per
request and carries out what it says; what a kind means is written at `KINDS`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import random
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

KINDS = {
    "status": "answer with `status`, `headers` and `body` (text or JSON) instead of doing the work",
    "lost_answer": "do the work, then close the connection without an answer",
    "drop": "close the connection without doing anything",
    "reset": "as drop, but with a TCP reset",
    "stall": "wait `seconds`, then go on as usual",
    "stall_body": "send the headers and `bytes` of the body, wait `seconds`, then send the rest",
    "cut_body": "send the headers and `bytes` of the body, then close the connection",
    "late_status": "do the work, then answer with `status` as if it had failed",
    "torn": "do the work with the first `bytes` of the file that is sent, then answer with"
    " `status`; 0: close the connection. The object store stores nothing then",
    "expire_tokens": "let all tokens issued so far expire, then go on as usual",
}
_NUMBERS = ("status", "count", "after", "every", "probability", "begin", "end", "seconds", "bytes")


@dataclasses.dataclass
class Fault:
    """One rule.

    `after` requests that match pass first; of the others every `every`th is hit with
    `probability`, at most `count` (-1: all). `begin` and `end` are seconds since the rule was set.
    """

    kind: str
    match: str = "*"
    method: str = "*"
    path: str = "*"  # a glob over the path in the query; for the object store over the key
    status: int = 503
    body: Any = ""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    count: int = 1
    after: int = 0
    every: int = 1
    probability: float = 1.0
    begin: float = 0.0
    end: float | None = None
    seconds: float = 1.0
    bytes: int = 0
    added: float = dataclasses.field(default_factory=time.monotonic)
    seen: int = 0

    @classmethod
    def parse(cls, rule: Mapping[str, Any]) -> Fault:
        """Build a rule from JSON. Raises ValueError with a readable reason."""
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = set(rule) - names
        if unknown or rule.get("kind") not in KINDS:
            reason = f"unknown keys {sorted(unknown)}" if unknown else f"kind {rule.get('kind')!r}"
            raise ValueError(f"{reason}; keys: {sorted(names)}; kinds: {sorted(KINDS)}")
        parsed = cls(**rule)
        for name in _NUMBERS:
            value = getattr(parsed, name)
            if not isinstance(value, (int, float)) and not (name == "end" and value is None):
                raise ValueError(f"{name} = {value!r}: not a number")
        return parsed

    @classmethod
    def from_text(cls, text: str) -> Fault:
        """Build a rule from a command line: JSON, or `KIND,KEY=VALUE,…` (a key of `headers` is
        `headers.NAME`). Raises ValueError with a readable reason.
        """
        if text.startswith("{"):
            return cls.parse(json.loads(text))
        kind, *pairs = text.split(",")
        rule: dict[str, Any] = {"kind": kind}
        for name, equals, value in (pair.partition("=") for pair in pairs):
            if not equals:
                raise ValueError(f"a fault is KIND,KEY=VALUE,…; {name!r} has no value")
            if name.startswith("headers."):
                rule.setdefault("headers", {})[name.removeprefix("headers.")] = value
            else:
                rule[name] = _number(value) if name in _NUMBERS else value
        return cls.parse(rule)

    def matches(self, endpoint: str, method: str, path: str) -> bool:
        """Tell whether the rule speaks of this request."""
        return (
            fnmatch.fnmatchcase(endpoint, self.match)
            and fnmatch.fnmatchcase(method, self.method)
            and fnmatch.fnmatchcase(path, self.path)
        )


def _number(text: str) -> float | str:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


class FaultBoard:
    """The rules in force. The first that matches and has applications left decides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _rules and the counters in them
        self._rules: list[Fault] = []
        self._random = random.Random(1)  # a fixed seed: a flaky server that is flaky repeatably

    def replace(self, rules: Iterable[Mapping[str, Any]]) -> None:
        """Put *rules* in place of all. Raises ValueError and changes nothing if one is bad."""
        parsed = [Fault.parse(rule) for rule in rules]
        with self._lock:
            self._rules = parsed

    def add(self, kind: str, match: str = "*", **options: Any) -> None:
        """Add one rule behind the others."""
        rule = Fault.parse({"kind": kind, "match": match, **options})
        with self._lock:
            self._rules.append(rule)

    def add_texts(self, texts: Iterable[str]) -> None:
        """Add rules as `Fault.from_text` reads them. Raises ValueError; then none is added."""
        rules = [Fault.from_text(text) for text in texts]
        with self._lock:
            self._rules += rules

    def clear(self) -> None:
        """Remove all rules."""
        self.replace([])

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules as JSON, with what is left of their counters."""
        with self._lock:
            return [dataclasses.asdict(rule) for rule in self._rules]

    def take(self, endpoint: str, method: str, path: str) -> Fault | None:
        """Return the fault that hits this request, counting the hit, or None."""
        if not self._rules:  # the usual case costs nothing
            return None
        with self._lock:
            for rule in self._rules:
                if rule.count != 0 and rule.matches(endpoint, method, path) and self._hits(rule):
                    return dataclasses.replace(rule)
        return None

    def _hits(self, rule: Fault) -> bool:
        age = time.monotonic() - rule.added
        if age < rule.begin or (rule.end is not None and age >= rule.end):
            return False
        if rule.after > 0:
            rule.after -= 1
            return False
        rule.seen += 1
        if rule.seen % rule.every:
            return False
        if rule.probability < 1.0 and self._random.random() >= rule.probability:
            return False
        rule.count -= rule.count > 0
        return True
