"""`/filesystem/{system}/ops/*`: the synchronous file operations, one remote command each."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from flask import Flask, Response, request

from .. import archives, listing, multipart, reading, writing
from ..login import Login
from ..shell import read
from ..site import Site
from .answers import ApiError, reply, reply_bytes
from .entry import Call, check_output_size, enter, remote_command
from .fields import Body, Query, read_json

COMPRESSIONS = ("none", "bzip2", "gzip", "xz")
_DEFAULT_VIEW = 5 * 1024 * 1024
# ls follows in the same command line; its result is the answer.
_LS = "timeout 5 ls -l --quoting-style=c --time-style='+%Y-%m-%dT%H:%M:%S' "


class Ops:
    """The handlers. Flask calls them with the system's name."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, app: Flask) -> None:
        """Add the routes."""
        routes = {
            "GET": ("ls", "stat", "file", "checksum", "head", "tail", "view", "download"),
            "POST": ("upload", "mkdir", "symlink", "compress", "extract"),
            "PUT": ("chmod", "chown"),
            "DELETE": ("rm",),
        }
        for method, names in routes.items():
            for name in names:
                rule = f"/filesystem/<system>/ops/{name}"
                app.add_url_rule(rule, f"ops/{name}", getattr(self, name), methods=[method])

    # -- reading ------------------------------------------------------------------------------

    def ls(self, system: str) -> Response:
        """List a directory, or show one entry."""
        call, query, path = self._query(system)
        options = listing.Options(
            hidden=query.boolean("showHidden"),
            numeric=query.boolean("numericUid"),
            recursive=query.boolean("recursive"),
            dereference=query.boolean("dereference"),
        )
        query.done()
        with remote_command(path):
            found = listing.ls(call.login, self._word(_LS + "-- '{path}'", path), options)
        check_output_size(self._site, found.text_size)
        return reply(
            {"output": [_file(entry) for entry in found.entries if entry.kind not in "bc"]}
        )

    def stat(self, system: str) -> Response:
        """Show the numbers of one file."""
        call, query, path = self._query(system)
        dereference = query.boolean("dereference")
        query.done()
        numbers = stat_numbers(self._site, call.login, path, dereference=dereference)
        return reply({"output": numbers})

    def file(self, system: str) -> Response:
        """Guess the type of a file."""
        call, query, path = self._query(system)
        query.done()
        with remote_command(path):
            path = self._word("timeout 5 file -b -- '{path}'", path)
            text = self._banner.decode() + reading.file_type(call.login, path)
        return reply({"output": text.strip()})

    def checksum(self, system: str) -> Response:
        """Compute a SHA-256 sum."""
        call, query, path = self._query(system)
        query.done()
        with remote_command(path):
            line = reading.sha256sum(
                call.login, self._word("timeout 5 sha256sum -- '{path}'", path)
            )
        line = self._banner.decode() + line
        words = line.split()
        if len(words) != 2:
            raise ApiError(500, f"Invalid output: {line} ")
        return reply({"output": {"algorithm": "SHA256", "checksum": words[0]}})

    def head(self, system: str) -> Response:
        """Return the beginning of a file."""
        call, query, path = self._query(system)
        lines, count, skip = _amounts(query, "skipTrailing")
        unit, number = ("bytes", count) if count else ("lines", lines or 10)
        given = lines if lines is not None else count
        sign = "-" if skip and (count or lines) else ""
        with remote_command(path):
            path = self._word("timeout 5 head -- '{path}'", path)
            data = reading.head(call.login, path, unit, f"{sign}{number}")
        end = 10 if given is None else -given if skip else given
        return self._excerpt(data, unit, 0, end)

    def tail(self, system: str) -> Response:
        """Return the end of a file."""
        call, query, path = self._query(system)
        lines, count, skip = _amounts(query, "skipHeading")
        unit, number = ("bytes", count) if count else ("lines", lines or 10)
        given = lines if lines is not None else count
        sign = "+" if skip and (count or lines) else ""
        with remote_command(path):
            path = self._word("timeout 5 tail -- '{path}'", path)
            data = reading.tail(call.login, path, unit, f"{sign}{number}")
        start = 10 if given is None else given if skip else -given
        return self._excerpt(data, unit, start, -1)

    def _excerpt(self, data: bytes, unit: str, start: int, end: int) -> Response:
        data = self._banner + data
        check_output_size(self._site, len(data))
        text = data.decode("utf-8", "replace")
        position = {"contentType": unit, "startPosition": start, "endPosition": end}
        return reply({"output": {"content": text, **position}})

    def view(self, system: str) -> Response:
        """Return a range of a text: two blocks are read, decoded, and sliced by characters."""
        call, query, path = self._query(system)
        size = query.integer("size", _DEFAULT_VIEW) or 0
        offset = query.integer("offset", 0) or 0
        query.done()
        limit = self._site.knobs.max_ops_file_size
        if offset < 0:
            raise ApiError(400, "`offset` value must be an integer value equal or greater than 0")
        if size <= 0:
            raise ApiError(400, "`size` value must be an integer value greater than 0")
        if size > limit:
            raise ApiError(400, f"`size` value must be less than {limit} bytes")
        with remote_command(path):
            path = self._word("timeout 5 dd if='{path}' count=2", path)
            data = reading.dd(call.login, path, size, offset // size, 2)
        data = self._banner + data
        check_output_size(self._site, len(data))
        start = offset % size
        return reply({"output": data.decode("utf-8", "replace")[start : start + size]})

    def download(self, system: str) -> Response:
        """Return a whole small file."""
        call, query, path = self._query(system)
        query.done()
        with remote_command(path):
            path = self._word("timeout 5 base64 --wrap=0 -- '{path}'", path)
            encoded_size, data = reading.contents(call.login, path)
        check_output_size(self._site, encoded_size + len(self._banner))
        return reply_bytes(_spoilt(self._banner, data) if self._banner else data)

    # -- writing ------------------------------------------------------------------------------

    def upload(self, system: str) -> Response:
        """Write a small file in place."""
        body = request.get_data()
        parts = multipart.parse(request.headers.get("Content-Type", ""), body)
        call = enter(self._site, system)
        call.check_path(None)
        query = Query()
        folder = query.text("path")
        part = next((part for part in parts if part.name == "file"), None)
        if part is None or part.filename is None:
            query.complain("body", "file", "Field required")
        query.done()
        assert part is not None
        if len(part.content) > self._site.knobs.max_ops_file_size:
            raise ApiError(413, "File to upload is too large.")
        path = f"{folder}/{part.filename}"
        with remote_command(path):
            path = self._word("timeout 5 base64 -d > '{path}'", path)
            writing.redirect(call.login, path, part.content)
        return reply(None, 204)

    def mkdir(self, system: str) -> Response:
        """Make a directory."""
        call, body, path = self._body(system)
        parents = body.boolean("parent")
        body.done()
        with remote_command(path):
            path = self._word("timeout 5 mkdir -- '{path}'", path)
            writing.mkdir(call.login, path, parents=parents)
            return reply({"output": _itself(call.login, path)}, 201)

    def symlink(self, system: str) -> Response:
        """Make a symbolic link."""
        call, body, target = self._body(system)
        link = body.text("linkPath")
        body.done()
        with remote_command(target, link):
            words = read(
                "ln -s -- '{target}' '{link}'", self._site.alarms, target=target, link=link
            )
            writing.symlink(call.login, words["target"], words["link"])
            return reply({"output": _itself(call.login, words["link"])}, 201)

    def chmod(self, system: str) -> Response:
        """Change a mode."""
        call, body, path = self._body(system)
        mode = body.text("mode")
        body.done()
        with remote_command(path, mode):
            words = read("chmod -v '{mode}' -- '{path}'", self._site.alarms, mode=mode, path=path)
            writing.chmod(call.login, words["path"], words["mode"])
            return reply({"output": _itself(call.login, words["path"])})

    def chown(self, system: str) -> Response:
        """Change owner and group."""
        call, body, path = self._body(system)
        owner, group = body.text("owner", ""), body.text("group", "")
        body.done()
        with remote_command(path, owner, group):
            # Owner and group share a word, so they are read on their own.
            alarms = self._site.alarms
            owner = read("chown '{owner}'", alarms, owner=owner)["owner"]
            group = read("chown '{group}'", alarms, group=group)["group"]
            path = self._word("chown -- '{path}'", path)
            writing.chown(call.login, path, owner, group)
            return reply({"output": _itself(call.login, path)})

    def rm(self, system: str) -> Response:
        """Remove a file or a whole tree."""
        json_body = read_json()
        call = enter(self._site, system)
        call.check_path(json_body)
        query = Query()
        path = query.text("path")
        query.done()
        with remote_command(path):
            writing.rm(
                call.login, self._word("timeout 5 rm -r --interactive=never -- '{path}'", path)
            )
        return reply(None, 204)

    def compress(self, system: str) -> Response:
        """Make an archive."""
        call, body, source = self._body(system)
        target = body.text("targetPath")
        pattern = body.optional("matchPattern")
        dereference = body.boolean("dereference")
        compression = body.choice("compression", COMPRESSIONS, "gzip")
        body.done()
        alarms = self._site.alarms
        with remote_command(source, target, pattern or ""):
            if pattern:
                out = archives.compress_matching(call.login, alarms, source, target, pattern)
            else:
                letter = archives.COMPRESSIONS[compression]
                out = archives.compress(
                    call.login, alarms, source, target, letter=letter, dereference=dereference
                )
        check_output_size(self._site, len(out))
        return reply(None, 204)

    def extract(self, system: str) -> Response:
        """Unpack an archive."""
        call, body, source = self._body(system)
        target = body.text("targetPath")
        compression = body.choice("compression", COMPRESSIONS, "gzip")
        body.done()
        with remote_command(source, target):
            letter = archives.COMPRESSIONS[compression]
            archives.extract(call.login, self._site.alarms, source, target, letter=letter)
        return reply(None, 204)

    @property
    def _banner(self) -> bytes:
        """What the login shell prints before the output of every command."""
        return self._site.knobs.banner.encode()

    # -- common -------------------------------------------------------------------------------

    def _query(self, system: str) -> tuple[Call, Query, str]:
        call = enter(self._site, system)
        call.check_path(None)
        query = Query()
        return call, query, query.text("path")

    def _body(self, system: str) -> tuple[Call, Body, str]:
        json_body = read_json()
        call = enter(self._site, system)
        call.check_path(json_body)
        body = Body(json_body)
        return call, body, body.path()

    def _word(self, template: str, path: str) -> str:
        return read(template, self._site.alarms, path=path)["path"]


def stat_numbers(site: Site, login: Login, path: str, *, dereference: bool) -> dict[str, int]:
    """Return what stat says of one file. Raises ApiError."""
    with remote_command(path):
        path = read("timeout 5 stat -c %f -- '{path}'", site.alarms, path=path)["path"]
        numbers = reading.stat(login, path, dereference=dereference)
    if site.knobs.banner:
        words = "zip() argument 2 is longer than argument 1"
        raise ApiError(500, str((words,)), unhandled=True)
    return numbers


def _spoilt(banner: bytes, data: bytes) -> bytes:
    """Return what the server decodes: the letters of the banner count as base64."""
    try:
        return base64.b64decode(banner + base64.b64encode(data))
    except binascii.Error as exc:
        raise ApiError(500, str(exc.args), unhandled=True) from exc


def _amounts(query: Query, switch: str) -> tuple[int | None, int | None, bool]:
    lines, count = query.integer("lines"), query.integer("bytes")
    skip = query.boolean(switch)
    query.done()
    if lines and count:
        raise ApiError(400, "Only one of `bytes` or `lines` can be specified.")
    return lines, count, skip


def _itself(login: Login, path: str) -> dict[str, Any]:
    return _file(listing.ls_itself(login, path))


def _file(entry: listing.Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "type": entry.kind,
        "linkTarget": entry.target,
        "user": entry.user,
        "group": entry.group,
        "permissions": entry.permissions,
        "lastModified": entry.modified,
        "size": str(entry.size),
    }
