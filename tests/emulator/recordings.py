"""The recordings of real servers beside the project: their fixture, steps, and rules of comparison.

What the files mean is written in their README. This module knows nothing of the emulator but its
URL: `Replay` sends the steps of an area and `Matcher` says in words where an answer differs.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import os
import re
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[3] / "shared" / "recordings"

# Placeholders whose value isn't known in advance, as patterns.
_VOLATILE = {
    "NOW": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "TIME": r"\d{4}-?\d\d-?\d\dT\d\d:?\d\d:?\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?",
    "DATE": r"\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \w+ \d{4}",
    "CREDENTIAL": r"\w+(%2F|/)\d{8}(%2F|/)[\w-]+(%2F|/)s3(%2F|/)aws4_request",
    "SIGNATURE": r"[0-9a-f]{64}",
    "UPLOADID": r"[\w-]+",
    "REST": r".*",
    "TIMESTAMP": r"\d+\.\d+",
    "EPOCH": r"\d+",
    "SECONDS": r"[\d.e-]+",
    "NUMBER": r"-?[\d.]+",
    "INO": r"\d+",
    "DEV": r"\d+",
    "DIRSIZE": r"\d+",
    "LEN": r"\d+",
    "UUID": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "HEX32": r"[0-9a-f]{32}",
    "HOST": r".+",
    "PORT": r"\d+",
    "NODE": r".+",
    "CLUSTER": r".+",
    "FEATURES": r".*",
    "S3": r"http://.+",
    "SERVERCODE": r".+",
    "TOKEN": r".+",
    "FEATURE": r".+",
    "SPOOL": r".+",
    "DURATION": r"[-\d:]+|N/A",
    "TIME_OR_DURATION": r"[-\dT:]+|N/A|Unknown",
    "TASKID": r"[0-9a-f]{32}",
    "WRAPPER": r"[^\n]+",
    "N": r"\d+",
    "SYSTEM_ADDR": r".+",
    "POLICY": r"[A-Za-z0-9+/=]+",
}
_NUMBERS = {
    *("EPOCH", "INO", "DEV", "SECONDS", "NUMBER", "PORT", "DIRSIZE", "LEN", "UID", "GID"),
    *("GID2", "OTHERUID"),
}
_SETS = {"systems", "out", "jobs", "servicesHealth", "groups", "accounts", "nodes", "partitions"}
_PLACEHOLDER = re.compile(r"\{([A-Z][A-Za-z0-9_-]*)\}")
_FREE_KEYS = {"priority", "account", "nodes", "partition", "limit"}  # of jobs
_ETAG = re.compile(r"&quot;[0-9a-f]{32}(-\d+)?&quot;")  # that of an object made of parts may vary
_PROGRESS = re.compile(r"(?:\[INFO\] Uploading part \d+\.\.\.\n)+")  # parallel, in any order
# v1 swaps two of these, the recorded scheduler did not.
_FREE_V1_KEYS = {"nodes", "partition", "start_time", "time", "TotalCPUs"}
_SEALED = "{ENCRYPTED}"
_FINAL_TASKS = {"200", "300", "301", "302", "400", "114", "117", "118"}


@dataclasses.dataclass
class Area:
    """One recorded area."""

    name: str
    fixture: list[str]
    steps: list[dict[str, Any]]

    @classmethod
    def load(cls, version: str, name: str) -> Area:
        text = (ROOT / version / f"{name}.json").read_text()
        # Two places where the recorded group is not a placeholder.
        text = text.replace("{USER} users ", "{USER} {GROUP} ")
        text = text.replace("{USER}:users", "{USER}:{GROUP}")
        # And ids of jobs that nobody captured.
        text = re.sub(r"\b(slurm|job)-\d+\.(out|err)", r"\1-{NUMBER}.\2", text)
        text = re.sub(r'("jobid": )"\d+"', r'\1"{NUMBER}"', text)
        data = json.loads(text)
        return cls(name, data["fixture"], data["steps"])


def content(spec: dict[str, Any]) -> bytes:
    """Return the bytes that a content specification stands for."""
    if "text" in spec:
        data = str(spec["text"]).encode()
    elif "base64" in spec:
        data = base64.b64decode(spec["base64"])
    else:
        data = _by_rule(spec["rule"], spec["size"])
    first, last = spec.get("slice", (0, None))
    return data[first:last]


@functools.cache
def _by_rule(rule: str, size: int) -> bytes:
    if rule == "lines16":
        return b"".join(b"%015d\n" % number for number in range(size // 16 + 1))[:size]
    rows = (_xor_rows()[(high ^ high >> 8) & 0xFF] for high in range(size // 256 + 1))
    return b"".join(rows)[:size]


@functools.cache
def _xor_rows() -> list[bytes]:
    return [bytes(low ^ mask for low in range(256)) for mask in range(256)]


class Fixture:
    """The file tree below {HOME}/rec."""

    def __init__(self, home: Path, values: dict[str, str]) -> None:
        self._base = home / "rec"
        self._values = values
        self._entries = json.loads((ROOT / "fixture.json").read_text())["entries"]

    def build(self, tops: list[str]) -> None:
        """Build the entries below *tops*: create all, then modes, then times, deepest first."""
        self._base.mkdir(exist_ok=True)
        chosen = [entry for entry in self._entries if self._name(entry).split("/")[0] in tops]
        for entry in chosen:
            self._create(entry)
        deepest = sorted(chosen, key=lambda entry: -self._name(entry).count("/"))
        for entry in deepest:
            if "mode" in entry:
                os.chmod(self._path(entry), int(entry["mode"], 8))
        for entry in deepest:
            if "mtime" in entry:
                times = (entry["mtime"], entry["mtime"])
                os.utime(self._path(entry), times, follow_symlinks=False)

    def _name(self, entry: dict[str, Any]) -> str:
        if "path" in entry:
            return str(entry["path"])
        return os.fsdecode(base64.b64decode(entry["path_base64"]))

    def _path(self, entry: dict[str, Any]) -> Path:
        return self._base / self._name(entry)

    def _create(self, entry: dict[str, Any]) -> None:
        path = self._path(entry)
        match entry["type"]:
            case "dir":
                path.mkdir(parents=True, exist_ok=True)
            case "file":
                path.write_bytes(content(entry["content"]))
            case "symlink":
                path.symlink_to(substitute(entry["target"], self._values))
            case "hardlink":
                os.link(self._base / entry["target"], path)
            case "fifo":
                os.mkfifo(path)


def substitute(value: Any, values: dict[str, str]) -> Any:
    """Fill known placeholders in all strings of a JSON value."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda m: str(values.get(m.group(1), m.group())), value)
    if isinstance(value, list):
        return [substitute(item, values) for item in value]
    if isinstance(value, dict):
        return {key: substitute(item, values) for key, item in value.items()}
    return value


class Matcher:
    """Compares one answer with the recorded one; `problems` says where they differ."""

    def __init__(self, values: dict[str, str], vary: list[str]) -> None:
        self._values = values
        self._vary = [place for note in vary for place in _places(note)]
        self.problems: list[str] = []

    def compare(self, recorded: dict[str, Any], response: requests.Response) -> list[str]:
        if "status" not in self._vary and response.status_code != recorded["status"]:
            self._problem("status", recorded["status"], response.status_code)
        for name, value in recorded.get("headers", {}).items():
            self._header(name, value, response.headers.get(name))
        self._body(recorded, response)
        return self.problems

    def _problem(self, where: str, expected: object, found: object) -> None:
        self.problems.append(f"{where}: expected {str(expected)[:400]!r}, got {str(found)[:400]!r}")

    def _header(self, name: str, expected: str, found: str | None) -> None:
        if f"header {name}" in self._vary:
            return
        if found is None:
            self._problem(f"header {name}", expected, None)
        elif name.lower() == "etag" and re.fullmatch(r'"[0-9a-f]{32}-\d+"', found):
            pass  # of an object made of parts
        elif name == "allow":
            if set(expected.split(", ")) != set(found.split(", ")):
                self._problem("header allow", expected, found)
        else:
            self._value(expected, found, f"header {name}")

    def _body(self, recorded: dict[str, Any], response: requests.Response) -> None:
        if "body" in self._vary:
            return
        if "body_text" in recorded:
            self._value(recorded["body_text"], response.content.decode("utf-8", "replace"), "text")
        elif "body_base64" in recorded:
            self._equal(base64.b64decode(recorded["body_base64"]), response.content, "bytes")
        elif "body_sha256" in recorded:
            self._equal(recorded["body_size"], len(response.content), "size")
            digest = hashlib.sha256(response.content).hexdigest()
            self._equal(recorded["body_sha256"], digest, "sha256")
        elif recorded.get("body") is None:
            self._equal(b"", response.content, "bytes")
        else:
            self._json(recorded["body"], response)

    def _json(self, expected: Any, response: requests.Response) -> None:
        try:
            found = response.json()
        except ValueError:
            self._problem("body", expected, response.text)
            return
        if isinstance(expected, dict) and expected.get("errorType") == "validation":
            # The message is a debug dump with lines of the server's source.
            expected = {**expected, "message": found.get("message")}
        if any(vary.startswith("tar's second line") for vary in self._vary):
            expected, found = _without_line(expected), _without_line(found)
        self._value(expected, found, "body")

    def _equal(self, expected: object, found: object, where: str) -> None:
        if expected != found:
            self._problem(where, expected, found)

    def _value(self, expected: Any, found: Any, where: str) -> None:
        if where in self._vary or expected == _SEALED:
            return
        if f"order of {where}" in self._vary and isinstance(expected, list):
            expected, found = self._sorted(expected), self._sorted(found)
        if isinstance(expected, dict) and "$long_text" in expected:
            self._long_text(expected["$long_text"], found, where)
        elif isinstance(expected, dict) and isinstance(found, dict):
            self._dict(expected, found, where)
        elif isinstance(expected, list) and isinstance(found, list):
            self._list(expected, found, where)
        elif isinstance(expected, str):
            self._text(expected, found, where)
        elif expected != found or type(expected) is not type(found):
            self._problem(where, expected, found)

    def _dict(self, expected: dict[str, Any], found: dict[str, Any], where: str) -> None:
        expected = {substitute(key, self._values): value for key, value in expected.items()}
        if set(expected) != set(found):
            self._problem(f"{where} keys", sorted(expected), sorted(found))
        for key in set(expected) & set(found):
            if not self._is_free(expected, found, key):
                self._value(expected[key], found[key], f"{where}.{key}")

    @staticmethod
    def _is_free(expected: dict[str, Any], found: dict[str, Any], key: str) -> bool:
        is_job = "jobId" in expected or "elapsed" in expected
        if is_job and key in _FREE_KEYS and type(found[key]) is type(expected[key]):
            return True
        if key == "jobId" and str(expected[key]).isdigit() and str(found[key]).isdigit():
            return True
        if key == "exit_code" and expected[key] == "0:15":
            # A stand-in's; Slurm's accounting has 0:0 for the allocation of a cancelled job.
            return bool(found[key] == "0:0")
        is_v1_row = "jobid" in expected or "PartitionName" in expected
        if is_v1_row and key in _FREE_V1_KEYS and isinstance(found[key], str):
            return True
        if key == "size" and str(expected.get("name")).endswith((".tgz", ".tar.gz", ".zip")):
            return True
        is_stat = key == "nlink" and int(expected["mode"]) & 0o170000 == 0o040000
        return is_stat and isinstance(found[key], int)

    def _list(self, expected: list[Any], found: list[Any], where: str) -> None:
        if 0 < len(expected) < len(found):
            found = self._recorded_jobs(expected, found)
        if len(expected) != len(found):
            self._problem(f"{where} length", expected, found)
            return
        if where.rsplit(".", 1)[-1] in _SETS:
            expected, found = self._sorted(expected), self._sorted(found)
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            self._value(one, other, f"{where}.{number}")

    def _recorded_jobs(self, expected: list[Any], found: list[Any]) -> list[Any]:
        """Leave out the jobs of v1 that the recorder left out: those whose ids it hadn't got."""
        ids = {str(row.get("jobid")) for row in substitute(expected, self._values) if row}
        return [row for row in found if "jobid" not in row or row["jobid"] in ids]

    def _sorted(self, rows: list[Any]) -> list[Any]:
        def key(row: Any) -> str:
            row = substitute(row, self._values)
            if not isinstance(row, dict):
                return str(row)
            fields = ("jobId", "id", "serviceType", "path", "name", "service", "system")
            names = [row.get(name) for name in fields]
            return str([str(name) for name in names])

        return sorted(rows, key=key)

    def _text(self, expected: str, found: Any, where: str) -> None:
        names = _PLACEHOLDER.findall(expected)
        expected, found = _settled(expected), _settled(found)
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            alone = names and expected == f"{{{names[0]}}}" and names[0] in _NUMBERS
            known = self._values.get(names[0]) if names else None
            if not alone or (known is not None and str(found) != str(known)):
                self._problem(where, expected, found)
            return
        pattern = "".join(
            self._pattern(piece) if odd else re.escape(piece)
            for odd, piece in _alternate(_PLACEHOLDER, expected)
        )
        if not isinstance(found, str) or not re.fullmatch(pattern, found, re.DOTALL):
            self._problem(where, substitute(expected, self._values), found)

    def _pattern(self, name: str) -> str:
        if name == "TOKEN":
            return _VOLATILE[name]
        if name in self._values:
            return re.escape(str(self._values[name]))
        return _VOLATILE.get(name, re.escape(f"{{{name}}}"))

    def _long_text(self, expected: dict[str, Any], found: Any, where: str) -> None:
        text = found if isinstance(found, str) else ""
        digest = hashlib.sha256(text.encode()).hexdigest()
        self._equal((expected["chars"], expected["sha256"]), (len(text), digest), where)


def _alternate(pattern: re.Pattern[str], text: str) -> list[tuple[bool, str]]:
    return [(bool(index % 2), piece) for index, piece in enumerate(pattern.split(text))]


def _places(note: str) -> list[str]:
    """Translate a remark on what may vary into the places that are not compared."""
    if note.startswith("body.error and X-Error"):
        return ["body.error", "header X-Error"]
    if note.startswith(("status 100", "may be 11")):
        return [f"body.task.{name}" for name in ("status", "description", "data")]
    if note.startswith("the byte counts"):
        return ["body.output"]
    return [note]


def _settled(text: Any) -> Any:
    """Take out of a text what may vary from run to run."""
    if not isinstance(text, str):
        return text
    text = _ETAG.sub("&quot;ETAG&quot;", text)
    return _PROGRESS.sub(lambda m: "".join(sorted(m.group().splitlines(keepends=True))), text)


def _without_line(body: Any) -> Any:
    if "error" in body:  # v1: in one line
        words = r"tar: [^:]*: Cannot write: Broken pipe"
        return {**body, "error": re.sub(words, "", str(body["error"]))}
    lines = str(body["message"]).split("\n")
    kept = [line for line in lines if "Broken pipe" not in line]
    return {**body, "message": "\n".join(kept)}


class Replay:
    """Sends the steps of areas to one server and collects the differences.

    `instead`: answers by the names of the steps in which the recorded server had a stand-in.
    """

    def __init__(
        self, url: str, values: dict[str, str], instead: dict[str, dict[str, Any]] | None = None
    ) -> None:
        self._url = url
        self.values = values
        self._instead = instead or {}
        self._http = requests.Session()
        self._http.trust_env = False

    def close(self) -> None:
        self._http.close()

    def step(self, step: dict[str, Any]) -> list[str]:
        """Send one step; return what is wrong with the answer."""
        response = self._send(step["request"])
        if "stand_in" in step and step["name"] not in self._instead:
            return []  # what was recorded is not what the real thing answers
        if step.get("repeat_until_final"):
            response = self._until_final(step, response)
        captured = self._captured(step, response)
        self.values.update(captured)
        self.values.update(_derived(captured))
        recorded = self._instead.get(step["name"], step["response"])
        return Matcher(self.values, step.get("vary", [])).compare(recorded, response)

    def _until_final(self, step: dict[str, Any], response: requests.Response) -> requests.Response:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not _is_final(step, response):
            time.sleep(0.03)
            response = self._send(step["request"])
        return response

    def _captured(self, step: dict[str, Any], response: requests.Response) -> dict[str, str]:
        out = {}
        for name, pointer in step.get("capture", {}).items():
            if pointer.startswith("@"):
                out[name] = response.headers.get(pointer[1:], "")
                continue
            try:
                value = response.json()
                for key in pointer.split("."):
                    value = value[int(key)] if isinstance(value, list) else value[key]
                out[name] = str(value)
            except (ValueError, KeyError, IndexError, TypeError):
                out[name] = "MISSING"
        return out

    def _send(self, recorded: dict[str, Any]) -> requests.Response:
        filled = substitute(recorded, self.values)
        url = filled.get("url") or self._url + filled["path"]
        if filled.get("query"):
            pairs = filled["query"].items()
            url += "?" + "&".join(f"{key}={_percent(str(value))}" for key, value in pairs)
        headers = {} if filled.get("url") else {"Authorization": f"Bearer {self.values['TOKEN']}"}
        headers.update(filled.get("headers") or {})
        data = self._payload(filled, headers)
        kept = {name: value for name, value in headers.items() if value is not None}
        request = requests.Request(filled["method"], url, headers=kept, data=data).prepare()
        return self._http.send(request, timeout=60, allow_redirects=False)

    def _payload(self, filled: dict[str, Any], headers: dict[str, str]) -> bytes | None:
        if filled.get("files"):
            headers["Content-Type"] = "multipart/form-data; boundary=replayed0boundary"
            return _multipart(filled["files"], filled.get("form") or {})
        if filled.get("form") is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            return urllib.parse.urlencode(filled["form"]).encode()
        if filled.get("json") is not None:
            headers["Content-Type"] = "application/json"
            return json.dumps(filled["json"]).encode()
        return content(filled["body"]) if filled.get("body") is not None else None


def _derived(captured: dict[str, str]) -> dict[str, str]:
    """Return the URLs that the recordings make of captured ones."""
    url = captured.get("A_GET", captured.get("A_URL"))
    if url is None:
        return {}
    old = re.sub(r"X-Amz-Date=\w+", "X-Amz-Date=20260101T000000Z", url)
    return {"A_OLD": old, "A_BARE": url.partition("?")[0]}


def _percent(value: str) -> str:
    return urllib.parse.quote(value, safe="/")


def _multipart(files: dict[str, Any], form: dict[str, str]) -> bytes:
    out = b""
    for name, value in form.items():
        head = f'--replayed0boundary\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        out += head.encode() + str(value).encode() + b"\r\n"
    for name, part in files.items():
        filename = part["filename"].replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = (
            f'--replayed0boundary\r\nContent-Disposition: form-data; name="{name}"; '
            f'filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        out += head.encode() + content(part["content"]) + b"\r\n"
    return out + b"--replayed0boundary--\r\n"


def replay_area(
    area: Area,
    url: str,
    home: Path,
    values: dict[str, str],
    instead: dict[str, dict[str, Any]] | None = None,
    before: Callable[[str, dict[str, str]], None] = lambda name, values: None,
) -> dict[str, list[str]]:
    """Build the fixture and send all steps; return the problems by step.

    Names that repeat are numbered. *home* is the directory that plays the remote home, *instead*
    holds answers by step where a stand-in was recorded, *before* is called with name and values
    before each step.
    """
    Fixture(home, values).build(area.fixture)
    out: dict[str, list[str]] = {}
    replay = Replay(url, values, instead)
    for step in area.steps:
        name = step["name"].strip()
        while name in out:
            name += " (again)"
        before(name, replay.values)
        out[name] = replay.step(step)
    replay.close()
    return out


@dataclasses.dataclass
class Verdict:
    """What remains of the differences of one area when the known ones are taken away."""

    name: str
    found: dict[str, list[str]]
    known: dict[tuple[str, str], str]  # (area, step) → why it differs
    races: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        """Raise AssertionError for a difference without a reason, and a reason without one."""
        excused = self.known | self.races
        text = ""
        for step, problems in self.found.items():
            if problems and (self.name, step) not in excused:
                text += "\n    ".join([step, *problems]) + "\n"
        assert not text, text
        steps = [step for area, step in self.known if area == self.name]
        assert [step for step in steps if not self.found.get(step, ["missing"])] == []

    def print(self) -> None:
        """Print how many steps agree, and why others don't."""
        wrong = [step for step, problems in self.found.items() if problems]
        print(f"{self.name:14} {len(self.found) - len(wrong):4} of {len(self.found):4}")
        for step in wrong:
            reason = (self.known | self.races).get((self.name, step), self.found[step][0])
            print(f"    {step}: {reason}")


def _is_final(step: dict[str, Any], response: requests.Response) -> bool:
    name = step["name"]
    if response.status_code != 200:
        return response.status_code != 404
    if "task" in response.json():
        recorded = step["response"]["body"]["task"]["status"]
        return response.json()["task"]["status"] in _FINAL_TASKS | {recorded}
    states = [job["status"]["state"] for job in response.json().get("jobs", [])]
    if "while it waits" in name or "when it runs" in name or "pending" in name:
        return bool(states) and states[0] in ("RUNNING",) + ("PENDING",) * ("pending" in name)
    unfinished = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}
    return bool(states) and not unfinished & set(states)
