"""Forks mounts: a process that has everything imported, so that one more death costs little.

Reads a line of JSON for each mount, forks, and answers with the child's pid. The child does what
`firecrestfs mount -f` does. Two things of its machine can be made different for it, which is all
that a power loss is to a program: `boot` names a file that it reads as the kernel's boot id, and
`durable` a directory in which a copy is kept of every file as it was when it was last fsynced.
"""

from __future__ import annotations

import builtins
import faulthandler
import io
import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from firecrestfs import binding, daemon
from firecrestfs.config import load

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def main() -> None:
    """Serve until stdin ends."""
    binding.load_binding(os.environ.get("FIRECRESTFS_FUSE", ""))
    for line in iter(sys.stdin.buffer.readline, b""):
        _reap()
        pid = os.fork()
        if pid == 0:
            _be_mount(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _be_mount(order: dict[str, Any]) -> None:
    """Serve a mount. Never returns."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        faulthandler.register(signal.SIGUSR2)
        if order.get("boot"):
            _boot_as(order["boot"])
        if order.get("durable"):
            _keep_what_is_fsynced(Path(order["durable"]))
        config = load(order["overrides"])
        status = daemon.mount(config, order["mountpoint"], foreground=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _boot_as(path: str) -> None:
    real = io.open

    def opened(file: Any, *args: Any, **kwargs: Any) -> Any:
        return real(path if str(file) == BOOT_ID else file, *args, **kwargs)

    io.open = builtins.open = opened


def _keep_what_is_fsynced(durable: Path) -> None:
    def keeping(real: Any) -> Any:
        def fsync(fd: Any) -> None:
            real(fd)
            path = os.readlink(f"/proc/self/fd/{fd if isinstance(fd, int) else fd.fileno()}")
            if os.path.isfile(path):
                shutil.copyfile(path, durable / os.path.basename(path))

        return fsync

    os.fsync, os.fdatasync = keeping(os.fsync), keeping(os.fdatasync)


if __name__ == "__main__":
    main()
