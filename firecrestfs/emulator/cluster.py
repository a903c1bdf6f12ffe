"""One emulated cluster: its accounts, file systems and their place on this machine."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from .accounts import Account, Directory, default_accounts
from .knobs import Knobs
from .login import Login
from .runner import Place, Runner
from .scheduler import Scheduler
from .tree import Tree


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """A file system as the site announces it; accounts have a directory of their name in it."""

    path: str
    kind: str  # users, scratch, store, project, …
    default_work_dir: bool = False


DEFAULT_FILE_SYSTEMS = (
    FileSystem("/home", "users"),
    FileSystem("/scratch", "scratch", default_work_dir=True),
)


@dataclasses.dataclass(frozen=True)
class SystemSpec:
    """In what one system of a site may differ from the others."""

    name: str
    transfer: str = "s3"  # method of staged transfers; streamer, wormhole: announced only
    files_of: str = ""  # another system that it shares all files with
    needs_account: bool = False
    max_part_size: int | None = None  # None: the knob's value
    nodes: tuple[str, ...] = ("nid001",)
    file_systems: tuple[FileSystem, ...] = ()  # none: those of the site
    down: bool = False  # v1: nothing answers on its SSH port


class Cluster:
    """A named system of the site. The first account is the one that the demo and the tests use."""

    def __init__(
        self,
        spec: SystemSpec,
        local_root: Path,
        knobs: Knobs,
        users: tuple[str, ...] = ("demo",),
        file_systems: tuple[FileSystem, ...] = DEFAULT_FILE_SYSTEMS,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.knobs = knobs
        file_systems = spec.file_systems or file_systems
        self.file_systems = file_systems
        self.nodes = spec.nodes
        self.partitions = ("part01", "xfer")
        self.accounts = default_accounts(users)
        roots = [tuple(fs.path.strip("/").split("/")) for fs in file_systems]
        self.directory = Directory(self.accounts, roots)
        self.tree = Tree(str(local_root), self.directory)
        self._make_directories(local_root)
        mountpoint = local_root.parent / ".jobroot"
        mountpoint.mkdir(exist_ok=True)
        paths = [fs.path for fs in file_systems]
        place = Place(self.tree.root, paths, str(mountpoint.resolve()))
        self.runner = Runner(place, self.accounts, knobs)
        self.scheduler = Scheduler(
            self.name, self.nodes, self.partitions, knobs, self.runner, self._scratch_of
        )

    @property
    def account(self) -> Account:
        """The first account."""
        return next(iter(self.accounts.values()))

    @property
    def work_root(self) -> str:
        """The file system in which jobs of the site itself work."""
        return next((fs.path for fs in self.file_systems if fs.default_work_dir), "")

    @property
    def transfer_directives(self) -> list[str]:
        """The lines on top of every transfer job."""
        lines = ["#SBATCH --nodes=1", "#SBATCH --time=0-00:15:00"]
        return [*lines, "#SBATCH --account={account}"] if self.needs_account else lines

    @property
    def needs_account(self) -> bool:
        """Whether transfer jobs demand an account."""
        return self.spec.needs_account or self.knobs.needs_account

    @property
    def max_part_size(self) -> int:
        """Bytes of one part of a staged transfer."""
        return self.spec.max_part_size or self.knobs.max_part_size

    def path_of(self, kind: str, account: Account) -> str:
        """Return the directory of *account* on the first file system of *kind*."""
        for fs in self.file_systems:
            if fs.kind == kind:
                return f"{fs.path}/{account.name}"
        return f"{self.file_systems[0].path}/{account.name}"

    def home(self, account: Account) -> str:
        """Return the home directory of *account*."""
        return self.path_of("users", account)

    def _scratch_of(self, login: Login) -> str:
        return self.path_of("scratch", login.account)

    def job_obstacle(self) -> str:
        """Return why batch jobs can't run on this machine; empty if they can."""
        return self.runner.probe(self.account)

    def local(self, path: str) -> Path:
        """Return where the remote *path* (without links) lies on this machine."""
        return Path(self.tree.root + path)

    def login(self, username: str) -> Login | None:
        """Return a session for a user, None for one without an account here."""
        account = self.accounts.get(username)
        if account is None:
            return None
        return Login(account, self.home(account), self.tree, self.directory, self.knobs)

    def describe(self) -> dict[str, str]:
        """Return names and places of the first account, for `serve --json`."""
        home, scratch = self.home(self.account), self.path_of("scratch", self.account)
        return {
            "name": self.name,
            "home": home,
            "local_home": str(self.local(home)),
            "scratch": scratch,
            "local_scratch": str(self.local(scratch)),
        }

    def _make_directories(self, local_root: Path) -> None:
        """Make what an administrator would: system directories, and one per account."""
        for path in ["/etc", "/usr", "/var", *(fs.path for fs in self.file_systems)]:
            _make(Path(f"{local_root}{path}"), 0o755)
        Path(f"{local_root}/etc/hostname").write_text(f"{self.name}\n")
        for fs in self.file_systems:
            for name in self.accounts:
                _make(Path(f"{local_root}{fs.path}/{name}"), 0o700)


def _make(path: Path, mode: int) -> None:
    if not path.exists():
        path.mkdir(parents=True)
        os.chmod(path, mode)  # whatever the umask
