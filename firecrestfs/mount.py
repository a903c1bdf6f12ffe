"""The composition root: from a Config to FuseOperations. Objects are wired here alone."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .api import ClientCredentialsAuth, Firecrest, StaticToken, TokenCommand, TokenFile, TypedClient
from .api.auth import TokenSource
from .cache.content import ContentCache
from .cache.database import Database
from .cache.journal import FileRecord, Journal
from .cache.metadata import MetadataCache, is_below
from .cache.submissions import SubmissionLog
from .config import Config
from .door import end_of_patience, interrupted
from .errors import os_error
from .fuseops import make_operations
from .model import System, UserInfo
from .running import Controls, Mount
from .transfer.bundle import Bundler
from .transfer.engine import TransferEngine
from .vfs.base import Filesystem
from .vfs.control import ControlFilesystem, ErrorLog
from .vfs.flights import Flights
from .vfs.identity import Identity
from .vfs.jobs import JobsFilesystem, JobsParts
from .vfs.jobs.cluster import Cluster
from .vfs.namespace import Mounted, Namespace, RootFilesystem
from .vfs.overlay import Overlay
from .vfs.remote import RemoteFilesystem
from .vfs.stores import Stores
from .vfs.tree import RemoteTree
from .vfs.view import RemoteParts

log = logging.getLogger(__name__)


def make_client(config: Config) -> TypedClient:
    """Return the client for the server of *config*. No request is sent."""
    zones = {name: each.zone for name, each in config.systems.items() if each.zone}
    client = Firecrest(
        config.url,
        _token_source(config),
        api_version=config.api_version or None,
        deadline_s=config.op_timeout + 30,
        allow_http=config.allow_http,
    )
    return TypedClient(client, zones)


def _token_source(config: Config) -> TokenSource:
    if config.token_command:
        return TokenCommand(config.token_command)
    if config.token_file:
        return TokenFile(config.token_file)
    if config.token:
        return StaticToken(config.token)
    return ClientCredentialsAuth(
        config.client_id,
        config.client_secret,
        config.token_url,
        scope=config.scope or None,
        allow_http=config.allow_http,
    )


def build(
    config: Config, binding: ModuleType, mountpoint: str, log_path: Path | None = None
) -> Mount:
    """Wire a mount of the server of *config*; asks it which systems it offers.

    Raises `OSError` where the server, the credentials or the local directories won't do.
    """
    _require_outside(mountpoint, config.local_state_dir, config.local_cache_dir)
    for directory in (config.local_state_dir, config.local_cache_dir):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    client = make_client(config)
    systems = {system.name: system for system in client.systems()}
    if not systems:
        raise os_error(errno.ENODEV, config.url, "the server offers no systems to this user")
    flights = Flights(
        deadline_s=config.op_timeout, interrupted=interrupted, end_of_patience=end_of_patience
    )
    errors = ErrorLog()
    content = ContentCache(config.local_cache_dir, config.local_state_dir, config.cache_size)
    database = Database(config.local_state_dir / "journal.sqlite")
    journal = Journal(database)
    _set_strays_aside(content, journal, errors)
    submissions = SubmissionLog(database)
    connector = _Connector(
        config, client, flights, errors, content, journal, submissions, mountpoint
    )
    mounted = {name: Mounted(connector.connect_later(system)) for name, system in systems.items()}
    uid, gid = os.getuid(), os.getgid()
    root = RootFilesystem(list(mounted), uid, gid)
    controls = Controls(config, mountpoint, log_path)
    control = ControlFilesystem(controls.reads(), controls.commands(), uid, gid)
    namespace = Namespace(root, control, mounted, flights)
    operations = make_operations(binding, namespace, errors.report)
    mount = Mount(client, operations, namespace, flights, errors, journal, submissions)
    controls.mount = mount
    return mount


@dataclass(frozen=True)
class _Connector:
    """Makes the file systems of a system when someone first looks into it."""

    config: Config
    client: TypedClient
    flights: Flights
    errors: ErrorLog
    content: ContentCache
    journal: Journal
    submissions: SubmissionLog
    mountpoint: str

    def connect_later(self, system: System) -> Callable[[], tuple[Filesystem, Filesystem]]:
        """Return the call that connects *system*."""
        return lambda: self.connect(system)

    def connect(self, system: System) -> tuple[Filesystem, Filesystem]:
        """Find out who we are on *system* and return its files and its jobs. Several requests."""
        if system.problem:
            log.warning("%s: %s", system.name, system.problem)
        user = self.client.userinfo(system.name)
        homes = self._home_links(system, user)
        if "HOME" in homes:
            self._learn_zone(system.name, homes["HOME"])
        files = RemoteFilesystem(self._parts(system, user), homes, self.mountpoint)
        jobs = JobsFilesystem(self._jobs_parts(system, user, files, homes))
        for record in self.journal.records():
            if record.system == system.name:
                self._recover(files, record)
        jobs.submissions.recover()
        return files, jobs

    def _jobs_parts(
        self, system: System, user: UserInfo, files: RemoteFilesystem, homes: dict[str, str]
    ) -> JobsParts:
        return JobsParts(
            Cluster(self.client, system.name, system.scheduler, user.name),
            self.flights,
            files,
            lambda path, seconds, stop: files.stores.flush(path, seconds, stop),
            self.submissions,
            homes.get("SCRATCH") or homes.get("HOME") or "/",
            os.getuid(),
            os.getgid(),
            self.mountpoint,
            lambda path, text: self.errors.report(f"/{system.name}{path}", text),
            interrupted,
            close_s=self.config.op_timeout / 3,
        )

    def _recover(self, files: RemoteFilesystem, record: FileRecord) -> None:
        """Take up one record; one that can't be must not keep the others from being."""
        try:
            files.recover(record)
        except OSError as exc:
            self.errors.report(f"/{record.system}{record.path}", f"can't be taken up: {exc}")

    def _parts(self, system: System, user: UserInfo) -> RemoteParts:
        settings = self.config.system(system.name)
        identity = Identity(system.name, user, os.getuid(), os.getgid())
        metadata = MetadataCache(
            ttl=self.config.ttl if settings.ttl is None else settings.ttl,
            negative_ttl=(
                self.config.negative_ttl if settings.negative_ttl is None else settings.negative_ttl
            ),
        )
        features = self.client.features(system.name)
        tree = RemoteTree(
            self.client,
            system,
            identity,
            metadata,
            self.flights,
            features,
            verbatim_links=self.config.symlinks == "verbatim",
        )
        overlay = Overlay()
        bundler = Bundler(self.client, system.name)
        engine = TransferEngine(self.client, system, user, bundler, features)
        stores = Stores(
            tree,
            overlay,
            self.content,
            self.journal,
            engine,
            self.flights,
            lambda path, text: self.errors.report(f"/{system.name}{path}", text),
            self.config.write_back,
        )
        return RemoteParts(
            self.client,
            identity,
            tree,
            overlay,
            self.content,
            engine,
            bundler,
            stores,
            self.flights,
        )

    def _home_links(self, system: System, user: UserInfo) -> dict[str, str]:
        """Return HOME and SCRATCH as far as they are set or can be proven by a stat."""
        settings = self.config.system(system.name)
        wanted = {"HOME": (settings.home, "users"), "SCRATCH": (settings.scratch, "scratch")}
        found = {}
        for name, (configured, data_type) in wanted.items():
            guesses = (
                [configured]
                if configured
                else [
                    f"{root.path.rstrip('/')}/{user.name}"
                    for root in system.roots
                    if root.data_type == data_type
                ]
            )
            for path in guesses:
                if self._is_there(system.name, path):
                    found[name] = path
                    break
        return found

    def _is_there(self, system: str, path: str) -> bool:
        try:
            self.client.stat(system, path, follow=True)
        except (FileNotFoundError, PermissionError):
            return False
        return True

    def _learn_zone(self, system: str, home: str) -> None:
        """Learn in which zone the cluster's listings are, from entries of the home directory."""
        try:
            self.client.list(system, home)
            self.client.learn_zone(system, home)
        except OSError as exc:
            log.info("%s: the zone of its listings isn't known yet: %s", system, exc)


def _set_strays_aside(content: ContentCache, journal: Journal, errors: ErrorLog) -> None:
    """Move what an earlier process left without a record out of the way: nothing is deleted."""
    known = {record.ident for record in journal.records()}
    for ident in content.left_behind():
        if ident not in known:
            errors.report("/", f"left by a mount that died: {content.set_aside(ident, 'stray')}")


def _require_outside(mountpoint: str, *directories: Path) -> None:
    for directory in directories:
        if is_below(os.path.abspath(directory), mountpoint):
            raise os_error(
                errno.EINVAL, str(directory), "a directory that the mount works with lies in it"
            )
