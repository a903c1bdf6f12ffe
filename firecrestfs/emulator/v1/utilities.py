"""`/utilities/*`: the synchronous file operations, one or two remote commands each."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import os
import stat as stat_bits
from collections.abc import Callable

from flask import Flask, Response, request, send_file

from .. import archives, listing, moving, reading, writing, zipping
from ..login import Login, fail
from ..site import Site
from . import lstext
from .answers import Answer, reply, too_large
from .call import Call
from .entry import TooLarge, checked, complaint, crash, form, is_true
from .remote import Failed
from .verdicts import reply_failure

_WRAPPER = "/usr/local/bin/ssh_command_wrapper.sh: line 74"
_FIELDS = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "mtime", "ctime")
_EXTRACT = {".zip": None, ".tar": "", ".bz2": "j", ".gz": "z", ".tgz": "z"}


class Utilities:
    """The handlers."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, app: Flask) -> None:
        """Add the routes."""
        routes = {
            "GET": (
                *("ls", "stat", "file", "checksum", "head", "tail", "view", "download", "whoami"),
            ),
            "POST": ("mkdir", "copy", "symlink", "upload", "compress", "extract"),
            "PUT": ("rename", "chmod", "chown"),
            "DELETE": ("rm",),
        }
        for method, names in routes.items():
            for name in names:
                handler = self._operation(name, getattr(self, name))
                rule = f"/utilities/{name}"
                app.add_url_rule(rule, f"utilities/{name}", handler, methods=[method])

    def _operation(self, name: str, handler: Callable[[Call], Response]) -> Callable[[], Response]:
        def answer() -> Response:
            try:
                return handler(Call(self._site, name))
            except TooLarge:
                size = self._site.knobs.max_ops_file_size
                return too_large(f"Failed to upload file. The file is over {size} bytes")

        return answer

    # -- reading ------------------------------------------------------------------------------

    def ls(self, call: Call) -> Response:
        """List a directory, or show one entry."""
        path = call.path()
        unsorted = call.switch("unsorted")
        options = listing.Options(
            hidden=call.switch("showhidden"),
            numeric=call.switch("numericUid"),
            recursive=call.switch("recursive"),
            dereference=call.switch("followLinks"),
            names_only=unsorted or call.switch("notListing"),  # -f after -l takes it back
            unsorted=unsorted,
        )

        def command(login: Login) -> str:
            found = listing.ls(login, call.word("ls -l -- '{path}'", path), options)
            return lstext.printed(found, options, login.knobs.locale)

        def output(text: str) -> list[object]:
            args = request.args
            return lstext.page(lstext.read(text), args.get("pageSize"), args.get("pageNumber"))

        return call.answer(command, output, "List of contents")

    def stat(self, call: Call) -> Response:
        """Show the numbers of one file."""
        path = call.path(other="sourcePath")
        dereference = call.switch("dereference")

        def command(login: Login) -> str:
            word = call.word("stat -- '{path}'", path)
            numbers = reading.stat(login, word, dereference=dereference)
            rest = " ".join(str(numbers[name]) for name in _FIELDS[1:])
            return f"{numbers['mode']:x} {rest}\n"

        return call.answer(command, _read_stat)

    def file(self, call: Call) -> Response:
        """Guess the type of a file."""
        path = call.path()
        return call.answer(
            lambda login: reading.file_type(login, call.word("file -b -- '{path}'", path)) + "\n"
        )

    def checksum(self, call: Call) -> Response:
        """Compute a SHA-256 sum."""
        path = call.path()
        return call.answer(
            lambda login: reading.sha256sum(login, call.word("sha256sum -- '{path}'", path)),
            lambda text: text.split()[0],
        )

    def head(self, call: Call) -> Response:
        """Return the beginning of a text."""
        return call.excerpt("head", "skip_ending", "-")

    def tail(self, call: Call) -> Response:
        """Return the end of a text."""
        return call.excerpt("tail", "skip_beginning", "+")

    def view(self, call: Call) -> Response:
        """Return the beginning of a text that is not too large."""
        size = call.size()
        if isinstance(size, Response):
            return size
        if size > self._site.knobs.max_ops_file_size:
            return _over_limit("Failed to view file content")
        return self.head(Call(self._site, "head"))

    def download(self, call: Call) -> Response:
        """Return a whole small file, or a range of it."""
        size = call.size()
        if isinstance(size, Response):
            return size
        path = request.args.get("sourcePath")
        if path is None:
            crash()
        elif size > self._site.knobs.max_ops_file_size:
            return _over_limit("Failed to download file")
        elif size == 0:  # also what has no size, such as a pipe
            return _attachment(path, b"")
        return self._content(Call(self._site, "base64"), str(path))

    def _content(self, call: Call, path: str) -> Response:
        checked(path, "sourcePath", call.description)

        def command(login: Login) -> bytes:
            word = call.word("base64 --wrap=0 -- '{path}'", path)
            encoded_size, data = reading.contents(login, word)
            return base64.b64encode(data) if data else b"=" * encoded_size

        try:
            return _attachment(path, base64.b64decode(call.session.run(command, raw=True)))
        except Failed as exc:
            return reply_failure(call.name, exc)
        except binascii.Error:
            crash()
            raise

    def whoami(self, call: Call) -> Response:
        """Tell the name of the user, with `groups` also the groups."""
        words = "User information"
        if not call.switch("groups"):
            return call.answer(lambda login: f"{login.account.name}\n", description=words)

        def output(_: str) -> dict[str, object]:
            account = call.session.login.account
            groups = [{"id": str(group.gid), "name": group.name} for group in account.groups]
            user = {"id": str(account.uid), "name": account.name}
            return {"user": user, "group": groups[0], "groups": groups}

        return call.answer(lambda _: "uid=…\n", output, words)

    # -- changing -----------------------------------------------------------------------------

    def mkdir(self, call: Call) -> Response:
        """Make a directory; any `p` at all means: and those above."""
        path = call.path()
        parents = "p" in form(self._site)
        return call.act(
            lambda login: writing.mkdir(
                login, call.word("mkdir -- '{path}'", path), parents=parents
            ),
            201,
        )

    def rm(self, call: Call) -> Response:
        """Remove a file or a whole tree."""
        path = call.path()
        return call.act(
            lambda login: writing.rm(
                login, call.word("rm -r --interactive=never -- '{path}'", path)
            ),
            204,
        )

    def rename(self, call: Call) -> Response:
        """Move, into the target if that is a directory."""
        target, source = call.path(), call.source()

        def act(login: Login) -> None:
            words = call.session.words(
                "mv --force -- '{source}' '{target}'", source=source, target=target
            )
            moving.mv(login, words["source"], words["target"])

        return call.act(act, 200)

    def copy(self, call: Call) -> Response:
        """Copy a file or a tree, into the target if that is a directory."""
        target, source = call.path(), call.source()

        def act(login: Login) -> None:
            words = call.session.words("cp -- '{source}' '{target}'", source=source, target=target)
            moving.cp(login, words["source"], words["target"])

        return call.act(act, 201)

    def symlink(self, call: Call) -> Response:
        """Make a symbolic link."""
        target = call.path()
        link = form(self._site).get("linkPath")
        if link is None or complaint(link):
            words = f"'linkPath' value {complaint(link)}"
            raise Answer(400, description="Failed to create symlink", error=words)

        def act(login: Login) -> None:
            words = call.session.words("ln -s -- '{target}' '{link}'", target=target, link=link)
            writing.symlink(login, words["target"], words["link"])

        return call.act(act, 201)

    def chmod(self, call: Call) -> Response:
        """Change a mode, and say how it was."""
        path = call.path()
        mode = checked(form(self._site).get("mode"), "mode", call.description)

        def command(login: Login) -> str:
            words = call.session.words("chmod -v '{mode}' -- '{path}'", mode=mode, path=path)
            before, after = writing.chmod(login, words["path"], words["mode"])
            return _mode_change(login.quoted(words["path"]), before, after)

        return call.answer(command, description="Success to chmod file or directory.")

    def chown(self, call: Call) -> Response:
        """Change owner and group, and say how they were."""
        path = call.path()
        fields = form(self._site)
        owner, group = fields.get("owner", ""), fields.get("group", "")
        if not owner and not group:
            words = "group or owner must be set"
            raise Answer(400, description="Error in chown operation", error=words)
        if complaint(owner + group):
            words = f"group or owner {complaint(owner + group)}"
            raise Answer(400, description="Error in chown operation", error=words)

        def command(login: Login) -> str:
            word = call.word("chown -v '':'' -- '{path}'", path)
            before = writing.chown(login, word, owner, group)
            return _owner_change(login, word, owner, group, before)

        return call.answer(command, description="Success to chown file or directory.")

    def upload(self, call: Call) -> Response:
        """Write a small file in place."""
        folder = call.path()
        part = request.files.get("file")
        problem = "No file in query" if part is None else ""
        name = "" if part is None else part.filename or ""
        if complaint(name) and not problem:
            problem = f"Filename {complaint(name)}"
        if problem or part is None:
            raise Answer(400, description="Failed to upload file", error=problem)
        data = part.read()

        def act(login: Login) -> None:
            path = call.word("cat > '{path}'", f"{folder}/{name}")
            if _is_pipe(login, path):
                crash()  # nobody reads: the watchdog ends the service
            shell = _WRAPPER if login.knobs.wrapper else "bash: line 1"
            writing.cat(login, path, io.BytesIO(data), len(data), shell)

        return call.act(act, 201, "File upload successful")

    def compress(self, call: Call) -> Response:
        """Make an archive."""
        target, source = call.path(), call.source()
        dereference = is_true(form(self._site).get("dereference"))

        def command(login: Login) -> bytes:
            words = call.session.words("tar '{source}' '{target}'", source=source, target=target)
            if "/" not in words["source"]:
                fail("tar: : Cannot open: No such file or directory\n" + _TAR_FATAL, status=2)
            return archives.compress(
                login,
                self._site.alarms,
                words["source"],
                words["target"],
                letter="z",
                dereference=dereference,
            )

        return call.answer(command, lambda _: "", status=201)

    def extract(self, call: Call) -> Response:
        """Unpack an archive; what it is its name tells."""
        target, source = call.path(), call.source()
        kind = extraction(source, form(self._site).get("type", "auto"), call.description)

        def command(login: Login) -> bytes:
            words = call.session.words("tar '{source}' '{target}'", source=source, target=target)
            if kind is None:
                return zipping.extract(login, words["source"], words["target"])
            return archives.extract(
                login, self._site.alarms, words["source"], words["target"], letter=kind
            )

        return call.answer(command, lambda _: "", status=201)


_TAR_FATAL = "tar: Error is not recoverable: exiting now"


def extraction(source: str, kind: str, description: str) -> str | None:
    """Return tar's letter for an archive, None for a zip file. Raises Answer."""
    extension = os.path.splitext(source)[1] if kind == "auto" else kind
    if extension not in _EXTRACT:
        raise Answer(400, description=description, error=f"Unsupported file format in {source}.")
    return _EXTRACT[extension]


def _read_stat(text: str) -> dict[str, int]:
    try:
        values = text.split()
        mode = int(values[0], base=16)
        rest = {name: int(value) for name, value in zip(_FIELDS[1:], values[1:], strict=False)}
    except ValueError:
        crash()
        raise
    return {"mode": mode, **rest}


def _over_limit(description: str) -> Response:
    header = {"X-Size-Limit": "File exceeds size limit"}
    return reply({"description": description}, 400, header)


def _attachment(path: str, data: bytes) -> Response:
    return send_file(
        io.BytesIO(data),
        mimetype="application/octet-stream",
        download_name=os.path.basename(path),
        as_attachment=True,
    )


def _is_pipe(login: Login, path: str) -> bool:
    with contextlib.suppress(OSError):
        return stat_bits.S_ISFIFO(os.stat(login.place(path).local).st_mode)
    return False


def _mode_change(path: str, before: int, after: int) -> str:
    if before == after:
        return f"mode of {path} retained as {_mode(after)}\n"
    return f"mode of {path} changed from {_mode(before)} to {_mode(after)}\n"


def _mode(bits: int) -> str:
    return f"{bits:04o} ({stat_bits.filemode(bits)[1:]})"


def _owner_change(login: Login, path: str, owner: str, group: str, before: tuple[int, int]) -> str:
    directory = login.directory
    was = f"{directory.user_name(before[0])}:{directory.group_name(before[1])}"
    gid = directory.find_group(group) if group else login.account.group.gid
    now = f"{directory.user_name(before[0])}:{directory.group_name(gid or 0)}"
    if now == was:
        return f"ownership of {login.quoted(path)} retained as {was}\n"
    new = now if owner else now[now.index(":") :]
    return f"changed ownership of {login.quoted(path)} from {was} to {new}\n"
