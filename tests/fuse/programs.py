"""How real programs save a file: vim, nano, emacs, and those that replace it.

Each is a call on the driver and a name; it makes `old line` of the file into `old line` and
`new line`.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ..fs.drivers import KernelDriver
from ..harness import COMMAND_S, is_readable

OLD = b"old line\n"
NEW = b"old line\nnew line\n"

#: Temporary directories are exempt from backups by default, and tests run in one.
_VIM = "vim -es -N -u NONE -i NONE -c 'set swapfile directory=. backupskip= {}'"
_EMACS = (
    "emacs --batch --quick --eval '(progn (setq backup-enable-predicate (lambda (name) t) {})"
    ' (find-file "NAME") (goto-char (point-max)) (insert "new line\\n") (save-buffer))\''
)
_PYTHON = """
import os, stat, sys
name = sys.argv[1]
with open(name) as file:
    text = file.read()
with open(name + ".part", "w") as file:
    file.write(text + "new line\\n")
    file.flush()
    os.fsync(file.fileno())
os.chmod(name + ".part", stat.S_IMODE(os.stat(name).st_mode))
os.replace(name + ".part", name)
"""
#: As GLib's g_file_replace does for gedit and others.
_GLIB = """
import os, sys
name = sys.argv[1]
status = os.stat(name)
data = open(name, "rb").read() + b"new line\\n"
temporary = ".goutputstream-A1B2C3"
fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.fchmod(fd, status.st_mode & 0o7777)
os.write(fd, data)
os.fsync(fd)
os.rename(temporary, name)
os.close(fd)
"""

Save = Callable[[KernelDriver, str], None]


def shell(fs: KernelDriver, command: str, **names: object) -> str:
    """Run *command* in the driver's directory; *names* are its variables."""
    env = os.environ | {name: str(value) for name, value in names.items()}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=fs.path(),
        env=env | {"LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by_command(command: str) -> Save:
    """Return the save that *command* is; NAME stands for the file."""
    return lambda fs, name: _quiet(shell(fs, command.replace("NAME", name)))


def _quiet(_: str) -> None:
    pass


def by_vim(settings: str) -> Save:
    """Return the save of vim with *settings*."""
    return by_command(f"{_VIM.format(settings)} -c 'normal Gonew line' -c wq NAME")


def by_emacs(settings: str) -> Save:
    """Return the save of emacs with *settings*, in Lisp."""
    return by_command(_EMACS.format(settings))


def by_python(code: str) -> Save:
    """Return the save of a Python program."""
    return lambda fs, name: _quiet(shell(fs, 'python3 -c "$CODE" ' + name, CODE=code))


def by_rsync(fs: KernelDriver, name: str) -> None:
    """Let rsync bring a newer version from elsewhere."""
    source = Path(fs.mountpoint).with_name("rsync-source")
    source.mkdir(exist_ok=True)
    (source / name).write_bytes(NEW)
    shell(fs, f'rsync -t "$SOURCE/{name}" {name}', SOURCE=source)
    shutil.rmtree(source)


def by_nano(*options: str) -> Save:
    """Return the save of nano, typed on a terminal."""

    def save(fs: KernelDriver, name: str) -> None:
        with Terminal(["nano", "--ignorercfiles", *options, name], fs.path()) as terminal:
            terminal.expect(b"old line")
            terminal.type(b"\x1b/new line")  # to the end, then the line; nano ends it
            terminal.expect(b"new line")
            terminal.type(b"\x0f\r")  # write out, under this name
            terminal.expect(b"Wrote 2 lines")
            terminal.type(b"\x18")
            terminal.wait()

    return save


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: list[str], directory: str) -> None:
        self._command, self._directory = command, directory
        self._seen = b""

    def __enter__(self) -> Terminal:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._directory,
            env=os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(15)
        os.close(self._master)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def expect(self, text: bytes) -> None:
        """Wait until *text* is written."""
        end = time.monotonic() + COMMAND_S
        while text not in self._seen:
            assert time.monotonic() < end and self._read(), self._seen[-500:]
        self._seen = self._seen.partition(text)[2]

    def wait(self) -> None:
        """Wait for the program's end, which must be a good one."""
        end = time.monotonic() + COMMAND_S
        while self._process.poll() is None:
            self._read()
            assert time.monotonic() < end, self._seen[-500:]
        assert self._process.returncode == 0

    def _read(self) -> bool:
        if is_readable(self._master, 0.2):
            try:
                piece = os.read(self._master, 1 << 16)
            except OSError:
                return False
            self._seen += piece
            return bool(piece)
        return self._process.poll() is None
