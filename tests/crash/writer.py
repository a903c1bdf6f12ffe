"""A program that saves files and writes down what it was told is saved; it knows nothing of mounts.

    python writer.py DIRECTORY MANIFEST SEED KINDS

Before each step a line goes into MANIFEST that tells what will be where after it (`after`: path →
digest, "dir" or null) and what else may be found if the step is cut (`or`); after the step, that it
is done. It begins with what is in DIRECTORY and goes on until something fails, which ends it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import sys
import time

#: From so many files on some are removed: what is tried is deaths, not amounts.
MANY = 25
MANY_DIRS = 8


def digest(data: bytes) -> str:
    """Return what stands for *data* in a manifest."""
    return hashlib.sha256(data).hexdigest()


class Writer:
    """The steps."""

    def __init__(self, top: str, manifest: str, seed: str) -> None:
        self.top = top
        self.chance = random.Random(seed)
        self.mark = seed.replace(":", "-")
        self.fd = os.open(manifest, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.number = 0
        self.files: list[str] = []
        self.dirs = [""]
        for where, dirs, files in os.walk(top):
            below = os.path.relpath(where, top)
            below = "" if below == "." else below
            self.files += sorted(os.path.join(below, name) for name in files)
            self.dirs += sorted(os.path.join(below, name) for name in dirs)
        # Two names of one file, where `linksave` was cut: a save by one is a save by both.
        self.twins = {each for each in self.files if each.endswith(".tmp")}
        self.twins |= {each.removesuffix(".tmp") for each in self.twins}
        self.files = [each for each in self.files if each not in self.twins]

    def note(self, **line: object) -> None:
        """Append a line; it is there whatever happens to this process or the mount."""
        os.write(self.fd, json.dumps(line).encode() + b"\n")

    # -- steps ---------------------------------------------------------------------------------

    def new(self) -> None:
        """Make a file under a name that wasn't there."""
        self.make(self.fresh())

    def make(self, path: str) -> str:
        """Make *path* and return its digest. Cut, it isn't there: it was never closed."""
        data = self.data()
        self.begin("new", {path: digest(data)})
        self.save(path, data, os.O_CREAT | os.O_EXCL)
        self.files.append(path)
        self.done()
        return digest(data)

    def rewrite(self) -> None:
        """Save over a file in place."""
        path, data = self.chance.choice(self.files), self.data()
        self.begin("rewrite", {path: digest(data)})
        self.save(path, data, os.O_TRUNC)
        self.done()

    def tempsave(self) -> None:
        """Save as careful programs do: under another name, then renamed over the file."""
        path = self.chance.choice(self.files)
        temporary = f"{path}.tmp-{self.mark}-{self.number}"
        self.move(temporary, path, self.make(temporary))

    def linksave(self) -> None:
        """Save as git does: under another name, which is linked to the new one, then removed."""
        path = self.fresh()
        temporary = f"{path}.tmp"
        saved = self.make(temporary)
        self.begin("link", {path: saved})
        os.link(self.path(temporary), self.path(path))
        self.files.append(path)
        self.done()
        self.begin("unlink", {temporary: None})
        os.unlink(self.path(temporary))
        self.files.remove(temporary)
        self.done()

    def rename(self) -> None:
        """Rename a file to a name that wasn't there, or over another file."""
        source = self.chance.choice(self.files)
        self.move(source, self.chance.choice([self.fresh(), self.chance.choice(self.files)]))

    def move(self, old: str, new: str, moved: str = "") -> None:
        """Rename; *moved* is the digest of *old* where that is known."""
        if old == new:
            return
        if not moved:
            with open(self.path(old), "rb") as file:
                moved = digest(file.read())
        self.begin("rename", {old: None, new: moved})
        os.rename(self.path(old), self.path(new))
        self.files.remove(old)
        if new not in self.files:
            self.files.append(new)
        self.done()

    def unlink(self) -> None:
        """Remove a file."""
        path = self.chance.choice(self.files)
        self.begin("unlink", {path: None})
        os.unlink(self.path(path))
        self.files.remove(path)
        self.done()

    def mkdir(self) -> None:
        """Make a directory, unless there are many."""
        path = self.fresh() + ".d"
        if len(self.dirs) > MANY_DIRS or path.count("/") > 2:
            return
        self.begin("mkdir", {path: "dir"})
        os.mkdir(self.path(path))
        self.dirs.append(path)
        self.done()

    def rmdir(self) -> None:
        """Remove a directory with all files in it, or leave one that has directories."""
        path = self.chance.choice(self.dirs)
        inside = [each for each in self.files if os.path.dirname(each) == path]
        if not path or any(each.startswith(path + "/") for each in {*self.dirs, *self.twins}):
            return
        for each in inside:
            self.begin("unlink", {each: None})
            os.unlink(self.path(each))
            self.files.remove(each)
            self.done()
        self.begin("rmdir", {path: None})
        os.rmdir(self.path(path))
        self.dirs.remove(path)
        self.done()

    # -- what they are made of -----------------------------------------------------------------

    def begin(self, what: str, after: dict[str, str | None], *cut: dict[str, str | None]) -> None:
        """Write down what is about to be done."""
        self.number += 1
        self.note(n=self.number, what=what, after=after, cut=cut)

    def done(self) -> None:
        """Write down that it is done."""
        self.note(done=self.number)

    def path(self, path: str) -> str:
        """Return where *path* lies."""
        return os.path.join(self.top, path)

    def fresh(self) -> str:
        """Return a name that was never used, in a directory that is there."""
        name = f"{self.mark}-{self.number}"
        return os.path.join(self.chance.choice(self.dirs), name)

    def data(self) -> bytes:
        """Return a content that no other file has, except for the empty one."""
        size = self.chance.choice([0, 10, 10, 200, 4096, 20_000])
        return (f"{self.mark} {self.number} ".encode() * (size // 8 + 1))[:size]

    def save(self, path: str, data: bytes, flags: int) -> None:
        """Write *data* in pieces and close."""
        fd = os.open(self.path(path), os.O_WRONLY | flags, 0o644)
        try:
            for at in range(0, len(data), 5000):
                os.write(fd, data[at : at + 5000])
            if self.chance.random() < 0.1:
                os.fsync(fd)
        finally:
            os.close(fd)


def main() -> None:
    """Do steps of the given kinds until something fails."""
    top, manifest, seed, kinds = sys.argv[1:5]
    failed: OSError | None = None
    writer = Writer(top, manifest, seed)
    writer.note(begun=True)
    try:
        while True:
            kind = writer.chance.choice(kinds.split(","))
            if not writer.files:
                kind = "new"
            elif len(writer.files) > MANY:
                kind = "unlink"
            getattr(writer, kind)()
            # Now and then long enough for stores to begin.
            time.sleep(writer.chance.choice([0.002, 0.002, 0.01, 0.02, 0.15]))
    except OSError as exc:
        failed = exc
    writer.note(error=errno.errorcode.get(failed.errno or 0, str(failed)), text=str(failed))


if __name__ == "__main__":
    main()
