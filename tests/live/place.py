"""A directory on a real cluster, and programs in a mount of it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api import NotFound, TypedClient
from firecrestfs.errors import FirecrestException
from firecrestfs.model import Attr, Features, Job, Kind, Limits

from ..harness import Mounted

#: A job may wait this long in the queue of a busy centre, and run.
JOB_S = float(os.environ.get("FIRECREST_LIVE_JOB_SECONDS", "90"))
ACCOUNT = os.environ.get("FIRECREST_LIVE_ACCOUNT") or None
SECOND = 1_000_000_000


def member(name: str, data: bytes = b"", **how: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Return a member of an archive; *how* are fields of `TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, int(time.time())
    for key, value in how.items():
        setattr(info, key, value)
    return info, data


def refused(act: Callable[..., object], *args: Any, **how: Any) -> FirecrestException:
    """Return what *act* raises."""
    with pytest.raises(FirecrestException) as caught:
        act(*args, **how)
    return caught.value


@dataclass(frozen=True)
class Place:
    """A directory on a system, as the typed client sees it."""

    client: TypedClient
    system: str
    path: str

    def __truediv__(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    def below(self, name: str) -> Place:
        return Place(self.client, self.system, self / name)

    @property
    def features(self) -> Features:
        return self.client.features(self.system)

    @property
    def limits(self) -> Limits:
        return self.client.limits(self.system)

    def mkdir(self, name: str = "") -> None:
        self.client.mkdir(self.system, (self / name).rstrip("/"))

    def put(self, name: str, data: bytes) -> str:
        """Write the file *name*; return its path."""
        directory, _, last = (self / name).rpartition("/")
        self.client.upload(self.system, directory, last, data)
        return self / name

    def get(self, name: str) -> bytes:
        return self.client.download(self.system, self / name)

    def stat(self, name: str, *, follow: bool = False) -> Attr:
        return self.client.stat(self.system, self / name, follow=follow)

    def exists(self, name: str) -> bool:
        try:
            self.stat(name)
        except NotFound:
            return False
        return True

    def names(self, name: str = "") -> list[str]:
        found = self.client.list(self.system, (self / name).rstrip("/"))
        return sorted(entry.name for entry in found)

    def plant(self, *members: tuple[tarfile.TarInfo, bytes]) -> None:
        """Unpack an archive of *members* here: names, times and links of any kind."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            for info, data in members:
                archive.addfile(info, io.BytesIO(data))
        name = f"plant-{os.urandom(4).hex()}.tar.gz"
        path = self.put(name, packed.getvalue())
        self.client.extract(self.system, path, self.path, compression="gzip")
        self.client.remove(self.system, path, Kind.FILE)

    def umask(self) -> int:
        """Return the umask of the cluster's login shell."""
        name = f"umask-{os.urandom(4).hex()}"
        self.mkdir(name)
        found = self.stat(name).mode & 0o777
        self.client.remove(self.system, self / name, Kind.DIRECTORY)
        return 0o777 & ~found

    def submit(self, script: str, **how: Any) -> str:
        """Submit *script* to run here; return the job's id."""
        how = {"working_directory": self.path, "account": ACCOUNT, **how}
        return self.client.submit(self.system, script=script, **how)

    def job(self, job_id: str, until: Callable[[Job], bool] = lambda job: job.ended) -> Job:
        """Wait until a job is what *until* wants. Fresh jobs may be unknown for some seconds."""
        end = time.monotonic() + JOB_S
        found: Job | None = None
        while time.monotonic() < end:
            with contextlib.suppress(FileNotFoundError):
                found = self.client.job(self.system, job_id)
                if until(found):
                    return found
            time.sleep(0.5)
        raise AssertionError(f"job {job_id} after {JOB_S:.0f} s: {found}")

    def wait(self, what: Callable[[], bool], seconds: float = 20.0) -> bool:
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                return False
            time.sleep(0.3)
        return True

    def clear(self) -> None:
        """Remove the directory, however little of it may be removed at first."""
        for _ in range(5):
            try:
                self.client.remove_tree(self.system, self.path)
            except NotFound:
                return
            except PermissionError:
                self._open_up()
            except TimeoutError:
                continue
        assert not self.exists(""), f"left behind: {self.path}"

    def _open_up(self, directory: str | None = None) -> None:
        directory = directory or self.path
        with contextlib.suppress(OSError):
            self.client.chmod(self.system, directory, 0o700)
            for entry in self.client.list(self.system, directory):
                if entry.attr.kind is Kind.DIRECTORY:
                    self._open_up(f"{directory}/{entry.name}")


class Shell:
    """Runs programs in the directory *place* of a mount."""

    def __init__(self, mounted: Mounted, place: Place) -> None:
        self.mounted = mounted
        self.place = place
        self.path = Path(f"{mounted.path}/{place.system}{place.path}")

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def start(self, command: str, **names: object) -> subprocess.Popen[bytes]:
        """Start *command*; *names* are its variables."""
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.path,
            env=self._env(names),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, command: str, **names: object) -> str:
        """Run *command* and return what it prints; it must succeed."""
        done = self.attempt(command, **names)
        assert done.returncode == 0, f"{command}\n{done.stderr}\n{self.errors()}"
        return done.stdout

    def fails(self, command: str, **names: object) -> str:
        """Run *command*, which must fail, and return its complaint."""
        done = self.attempt(command, **names)
        assert done.returncode != 0, f"{command}\n{done.stdout}"
        return done.stderr

    def attempt(self, command: str, **names: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.path,
            env=self._env(names),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=80,
            check=False,
        )

    def _env(self, names: dict[str, object]) -> dict[str, str]:
        return (
            self.mounted.env
            | {name: str(value) for name, value in names.items()}
            | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
        )

    def sync(self) -> None:
        """Return when the cluster has everything."""
        done = self.mounted.cli("sync", self.path, timeout=80)
        assert done.returncode == 0, f"{done.stderr}{self.errors()}"

    def refresh(self) -> None:
        """Forget what the mount remembers of the cluster."""
        done = self.mounted.cli("refresh", f"{self.mounted.path}/{self.place.system}")
        assert done.returncode == 0, done.stderr
        # The kernel believes for a second that a name is what it was.
        time.sleep(1.1)

    def errors(self) -> str:
        """Return what went wrong lately."""
        return Path(f"{self.mounted.path}/.firecrestfs/errors").read_text()
