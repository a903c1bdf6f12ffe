"""A wired mount without a kernel, and system calls on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from firecrestfs.config import Config
from firecrestfs.emulator import Emulator
from firecrestfs.fuseops import FuseOperations
from firecrestfs.mount import Mount, build

from .tools import Remote

BINDING: Any = SimpleNamespace(
    __name__="mfusepy", _libfuse=SimpleNamespace(fuse_interrupted=lambda: 0)
)
OMIT = 1073741822


def make_config(emulator: Emulator, directory: Path, **changes: Any) -> Config:
    """Return what it takes to mount *emulator*'s systems with all state in *directory*."""
    values: dict[str, Any] = {
        "url": emulator.url,
        "client_id": emulator.client_id,
        "client_secret": emulator.client_secret,
        "token_url": emulator.token_url,
        "cache_dir": str(directory / "cache"),
        "state_dir": str(directory / "state"),
        "write_back": 0.01,
        "op_timeout": 5.0,
    }
    return Config(**values | changes)


class Files:
    """System calls on the test's directory through the operations."""

    def __init__(self, mount: Mount, there: Remote) -> None:
        self.mount = mount
        self.ops: FuseOperations = mount.operations
        self.there = there

    def path(self, name: str) -> str:
        return f"/cluster{self.there.path}/{name}".rstrip("/")

    def open(self, name: str, flags: int) -> Any:
        info = SimpleNamespace(fh=0, flags=flags, direct_io=0, keep_cache=0)
        self.ops.open(self.path(name), info)
        return info

    def created(self, name: str, mode: int = 0o644) -> Any:
        """Create a file and keep it open."""
        info = SimpleNamespace(fh=0, flags=os.O_RDWR | os.O_CREAT, direct_io=0, keep_cache=0)
        self.ops.create(self.path(name), mode, info)
        return info

    def create(self, name: str, data: bytes = b"", mode: int = 0o644) -> None:
        info = self.created(name, mode)
        if data:
            self.ops.write(self.path(name), data, 0, info)
        self.close(name, info)

    def close(self, name: str, info: Any) -> None:
        self.ops.flush(self.path(name), info)
        self.ops.release(self.path(name), info)

    def stat(self, name: str) -> Any:
        return self.ops.getattr(self.path(name))

    def sync(self) -> dict[str, str]:
        return self.mount.drain(10.0)

    def refresh(self) -> None:
        for files in self.mount.files().values():
            files.refresh("/")


@contextmanager
def restarting(
    emulator: Emulator, there: Remote, directory: Path, **changes: Any
) -> Iterator[Callable[..., Files]]:
    """Yield what starts a mount over the state in *directory*; the one before is gone then."""
    alive: list[Mount] = []

    def end() -> None:
        for mount in alive:
            mount.stop()
            mount.journal.close()
        alive.clear()

    def restart(write_back: float = 0.01) -> Files:
        end()
        config = make_config(emulator, directory, write_back=write_back, **changes)
        alive.append(build(config, BINDING, "/mnt/hpc"))
        return Files(alive[-1], there)

    yield restart
    end()
