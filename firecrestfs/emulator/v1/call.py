"""What all operations of the utilities have in common: fields, commands, answers."""

from __future__ import annotations

import io
from collections.abc import Callable

from flask import Response, request

from .. import reading
from ..login import Login
from ..shell import CommandFailed
from ..site import Site
from .answers import Answer, reply
from .entry import checked, crash, form, is_true, machine, username
from .remote import Command, Failed, Session
from .verdicts import reply_failure, reply_unmatched


class Call:
    """One request for one operation. Making it checks the system's name."""

    def __init__(self, site: Site, name: str) -> None:
        self.name = name
        self.description = f"Error on {name} operation"
        cluster = site.clusters.get(machine())
        if cluster is None:
            words = "Machine does not exist"
            header = {"X-Machine-Does-Not-Exist": words}
            raise Answer(400, header, description=self.description, error=words)
        self._site = site
        self.session = Session(site, cluster, username())

    def path(self, other: str = "") -> str:
        """Return `targetPath`, in a query possibly by its *other* name. Raises Answer."""
        name = "targetPath"
        if request.method == "GET":
            value = request.args.get(name)
            if value is None and other:
                name = other
                value = request.args.get(other)
        else:
            value = form(self._site).get(name)
        return checked(value, name, self.description)

    def source(self) -> str:
        """Return `sourcePath` of the form. Raises Answer."""
        return checked(form(self._site).get("sourcePath"), "sourcePath", self.description)

    def switch(self, name: str) -> bool:
        """Return a switch of the query."""
        return is_true(request.args.get(name))

    def word(self, template: str, path: str) -> str:
        """Return what the login shell makes of *path*."""
        return self.session.word(f"timeout 5 {template}", path)

    def answer(
        self,
        command: Command,
        output: Callable[[str], object] = str,
        description: str = "",
        status: int = 200,
    ) -> Response:
        """Run a command and answer with what *output* makes of its text."""
        try:
            text = self.session.run(command)
        except Failed as exc:
            return reply_failure(self.name, exc)
        words = description or f"Success to {self.name} file."
        return reply({"description": words, "output": output(text)}, status)

    def act(self, do: Callable[[Login], object], status: int, description: str = "") -> Response:
        """Run a command that prints nothing."""

        def command(login: Login) -> str:
            do(login)
            return ""

        return self.answer(command, lambda _: "", description, status)

    def size(self) -> int | Response:
        """Return the size of the file that is meant, or the refusal."""
        call = Call(self._site, "fsize")
        path = call.path(other="sourcePath")

        def command(login: Login) -> str:
            word = call.word("stat --dereference -c %s -- '{path}'", path)
            return f"{reading.stat(login, word, dereference=True)['size']}\n"

        try:
            return int(call.session.run(command))
        except Failed as exc:
            return reply_failure("fsize", exc)
        except ValueError:
            crash()
            raise

    def excerpt(self, tool: str, switch: str, sign: str) -> Response:
        """Run head or tail, and grep if asked."""
        path = self.path()
        unit, number = self._amount(sign if self.switch(switch) else "")
        pattern = request.args.get("grep", "")
        read = reading.head if tool == "head" else reading.tail

        def command(login: Login) -> bytes:
            template = f"{tool} --{unit}='{{number}}' -- '{{path}}'"
            words = self.session.words(template, number=number, path=path)
            if not pattern:
                return read(login, words["path"], unit, words["number"])
            wanted = self.session.words("grep --regexp='{pattern}'", pattern=pattern)["pattern"]
            return _grep(lambda: read(login, words["path"], unit, words["number"]), wanted)

        try:
            text = self.session.run(command, raw=True)
        except Failed as exc:
            operation = f"{tool} operation" + (" with grep" if pattern else "")
            if pattern and exc.code == 1 and not exc.text:
                return reply_unmatched(tool)
            return reply_failure(operation.replace(" operation", "", 1), exc)
        return reply({"description": f"Success to {tool} file.", "output": text})

    def _amount(self, sign: str) -> tuple[str, str]:
        given = {unit: request.args.get(unit) for unit in ("bytes", "lines")}
        if given["bytes"] and given["lines"]:
            words = "Can not specify both 'bytes' and 'lines'"
            raise Answer(400, description=self.description, error=words)
        for unit, value in given.items():
            if value:
                return unit, sign + checked(value, unit, self.description)
        return "lines", "10"


def _grep(read: Callable[[], bytes], pattern: str) -> bytes:
    """Filter what *read* returns; what it complains about is all that is left of a failure."""
    try:
        lines = io.BytesIO(read())
    except CommandFailed as exc:
        raise CommandFailed(1, exc.stderr) from exc
    found = b"".join(line for line in lines if pattern.encode() in line)
    if not found:
        raise CommandFailed(1, "")
    return found if found.endswith(b"\n") else found + b"\n"
