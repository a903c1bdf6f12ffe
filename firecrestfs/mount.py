"""The composition root: from a Config to FuseOperations. Objects are wired here alone."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .api import ClientCredentialsAuth, Firecrest, StaticToken, TokenCommand, TokenFile, TypedClient
from .api.auth import TokenSource
from .cache.content import ContentCache
from .cache.database import Database
from .cache.inodes import Inodes
from .cache.journal import Journal
from .cache.metadata import MetadataCache
from .cache.sealing import Sealer
from .cache.submissions import SubmissionLog
from .cache.transfers import Transfers
from .config import Config
from .controls import Controls
from .door import end_of_patience, interrupted
from .errors import os_error, tells_nothing
from .fuseops import make_operations
from .kept import StateDirectory
from .model import System, UserInfo
from .paths import directory_of, is_below
from .running import Mount
from .stagedparts import StagedParts
from .transfer.bundle import Bundler
from .transfer.engine import TransferEngine
from .transfer.linking import Linker
from .transfer.moving import Mover
from .transfer.removing import Remover
from .transfer.swept import Leftovers
from .transfer.touching import Toucher
from .vfs.base import Filesystem
from .vfs.control import ControlFilesystem, ErrorLog
from .vfs.flights import Flights
from .vfs.hardlinks import HardLinks
from .vfs.identity import Identity
from .vfs.jobs import JobsFilesystem, JobsParts
from .vfs.jobs.cluster import Cluster
from .vfs.landing import Landing
from .vfs.moves import Moves
from .vfs.namespace import Mounted, Namespace, RootFilesystem
from .vfs.notes import Notes
from .vfs.onsite import OnSite
from .vfs.overlay import Overlay
from .vfs.remote import RemoteFilesystem
from .vfs.steady import Steady
from .vfs.stores import Stores
from .vfs.tree import RemoteTree
from .vfs.view import RemoteParts

log = logging.getLogger(__name__)


def make_client(config: Config, *, fail_fast: bool = False) -> TypedClient:
    """Return the client for the server of *config*. No request is sent.

    *fail_fast*: calls don't wait for a server that is known to be out of reach.
    """
    zones = {name: each.zone for name, each in config.systems.items() if each.zone}
    client = Firecrest(
        config.url,
        token_source(config),
        api_version=config.api_version or None,
        deadline_s=config.op_timeout + 30,
        allow_http=config.allow_http,
        fail_fast=fail_fast,
    )
    return TypedClient(client, zones)


def token_source(config: Config) -> TokenSource:
    """Return where *config* says that tokens come from."""
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

    Where it can't be reached those will do that it offered the latest time. Raises `OSError` where
    the server, the credentials or the local directories won't do.
    """
    _require_outside(mountpoint, config.local_state_dir, config.local_cache_dir)
    for directory in (config.local_state_dir, config.local_cache_dir):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    client = make_client(config, fail_fast=True)
    flights = Flights(
        deadline_s=config.op_timeout,
        interrupted=interrupted,
        end_of_patience=end_of_patience,
        given_up=client.circuit.silence,
    )
    state = StateDirectory(config.local_state_dir)
    names = _systems(client, config.url, state, flights)
    errors = ErrorLog()
    for gone in state.remove_expired():
        log.info("discarded more than seven days ago, removed: %s", gone)
    content = ContentCache(config.local_cache_dir, config.local_state_dir, config.cache_size)
    database = Database(config.local_state_dir / "journal.sqlite")
    journal = Journal(database)
    _set_strays_aside(content, journal, errors)
    sealer = Sealer(content, journal)
    sealer.start()
    submissions = SubmissionLog(database)
    transfers = Transfers(database)
    connector = _Connector(
        config,
        client,
        flights,
        errors,
        content,
        database,
        journal,
        sealer,
        submissions,
        transfers,
        mountpoint,
    )
    mounted = {name: Mounted(connector.connect_later(name)) for name in names}
    uid, gid = os.getuid(), os.getgid()
    root = RootFilesystem(list(mounted), uid, gid)
    controls = Controls(config, mountpoint, log_path, token_source)
    control = ControlFilesystem(controls.reads(), controls.commands(), uid, gid, controls.lost())
    namespace = Namespace(root, control, mounted, flights)
    operations = make_operations(binding, namespace, errors.report)
    mount = Mount(
        client, operations, namespace, flights, errors, journal, sealer, submissions, transfers
    )
    controls.mount = mount
    client.circuit.on_back = mount.resume
    return mount


@dataclass(frozen=True)
class _Connector:
    """Makes the file systems of a system when someone first looks into it."""

    config: Config
    client: TypedClient
    flights: Flights
    errors: ErrorLog
    content: ContentCache
    database: Database
    journal: Journal
    sealer: Sealer
    submissions: SubmissionLog
    transfers: Transfers
    mountpoint: str

    def connect_later(self, name: str) -> Callable[[], tuple[Filesystem, Filesystem]]:
        """Return the call that connects the system *name*."""
        return lambda: self.connect(name)

    def connect(self, name: str) -> tuple[Filesystem, Filesystem]:
        """Find out who we are on a system and return its files and its jobs. Several requests."""
        system = self.client.system(name)
        if system.problem:
            log.warning("%s: %s", system.name, system.problem)
        user = self.client.userinfo(system.name)
        homes = self._home_links(system, user)
        if "HOME" in homes:
            self._learn_zone(system.name, homes["HOME"])
        files = RemoteFilesystem(self._parts(system, user, homes), homes, self.mountpoint)
        jobs = JobsFilesystem(self._jobs_parts(system, user, files, homes))
        found = [each for each in self.journal.found() if each.record.system == system.name]
        files.recover(found)
        files.sweep_later()
        jobs.submissions.recover()
        return files, jobs

    def _jobs_parts(
        self, system: System, user: UserInfo, files: RemoteFilesystem, homes: dict[str, str]
    ) -> JobsParts:
        return JobsParts(
            Cluster(self.client, system.name, system.scheduler, user.name),
            self.flights,
            files,
            lambda path, seconds, stop: files.stores.flush(path, seconds, stop, times=False),
            self.submissions,
            homes.get("SCRATCH") or homes.get("HOME") or "/",
            os.getuid(),
            os.getgid(),
            self.mountpoint,
            self._report_of(system),
            interrupted,
            close_s=self.config.op_timeout / 3,
        )

    def _parts(self, system: System, user: UserInfo, homes: Mapping[str, str]) -> RemoteParts:
        identity = self._identity(system.name, user)
        tree = self._tree(system, identity)
        features = tree.features
        overlay = Overlay()
        bundler = Bundler(self.client, system.name, self._leftovers(system.name))
        staged = StagedParts.of(
            self.client, system, user, bundler, self.transfers, list(homes.values()), self.config
        )
        engine = TransferEngine(
            self.client,
            system,
            user,
            bundler,
            features,
            staged.stores,
            self.config.conflict,
            self.config.atomic_store,
            staged.toucher.given,
            staged.jobs,
        )
        mover = Mover(self.client, system.name, bundler, engine, features)
        stores = self._stores(tree, identity, overlay, bundler, engine, mover, staged.toucher)
        steady = Steady(overlay, stores)
        return RemoteParts(
            self.client,
            identity,
            tree,
            overlay,
            self.content,
            engine,
            bundler,
            mover,
            stores,
            steady,
            staged.fetching(tree, overlay, self.content, engine, stores, steady, self.flights),
            staged.board,
            staged.leftovers,
            OnSite(self.client, tree, staged.jobs, stores.flush, interrupted),
            self.flights,
            self.journal,
        )

    def _stores(
        self,
        tree: RemoteTree,
        identity: Identity,
        overlay: Overlay,
        bundler: Bundler,
        engine: TransferEngine,
        mover: Mover,
        toucher: Toucher,
    ) -> Stores:
        """Return what tells the cluster of changes."""
        notes = Notes(overlay, self.content, self._report_of(tree.system))
        moves = Moves(tree, identity, overlay, mover, notes)
        remover = Remover(self.client, tree.system.name, engine, bundler.is_leftover)
        linker = Linker(self.client, tree.system.name, bundler)
        hardlinks = HardLinks(tree, identity, overlay, linker, notes)
        landing = Landing(
            tree, overlay, self.content, engine, remover, moves, hardlinks, notes, toucher
        )
        return Stores(
            tree,
            overlay,
            self.content,
            self.journal,
            engine,
            self.flights,
            landing,
            notes,
            self.config.write_back,
            self.sealer.seal,
            write_through=self.config.write_through,
            remote_fsync=self.config.fsync == "remote",
        )

    def _identity(self, system: str, user: UserInfo) -> Identity:
        inodes = Inodes(self.database, system)
        return Identity(system, user, os.getuid(), os.getgid(), inodes)

    def _report_of(self, system: System) -> Callable[[str, str], None]:
        return lambda path, text: self.errors.report(f"/{system.name}{path}", text)

    def _tree(self, system: System, identity: Identity) -> RemoteTree:
        settings = self.config.system(system.name)
        metadata = MetadataCache(
            ttl=self.config.ttl if settings.ttl is None else settings.ttl,
            negative_ttl=(
                self.config.negative_ttl if settings.negative_ttl is None else settings.negative_ttl
            ),
        )
        return RemoteTree(
            self.client,
            system,
            identity,
            metadata,
            self.flights,
            self.client.features(system.name),
            verbatim_links=self.config.symlinks == "verbatim",
        )

    def _leftovers(self, system: str) -> Leftovers:
        return Leftovers(
            self.journal.leftovers(system),
            lambda path: self.journal.leave(system, path),
            lambda path: self.journal.removed(system, path),
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
        """Learn in which zone the cluster's listings are, from entries of the home directory.

        Where that is empty, from what is beside it.
        """
        for directory in (home, directory_of(home)):
            try:
                self.client.list(system, directory)
                if self.client.learn_zone(system, directory):
                    return
            except OSError as exc:
                log.info("%s: the zone of its listings isn't known yet: %s", system, exc)
                if tells_nothing(exc):
                    return  # who waits to be connected waits for a silent server once


def _systems(client: TypedClient, url: str, state: StateDirectory, flights: Flights) -> list[str]:
    """Return the names of what the server offers; of what it did offer, where it can't be asked."""
    known = state.systems()
    if known:
        client.circuit.vouch()
    try:
        # Where there is another way, nobody waits longer for a silent server than any call does.
        found = flights.run(client.systems, "systems") if known else client.systems()
        names = [system.name for system in found]
    except OSError as exc:
        if not (known and tells_nothing(exc)):
            raise
        log.warning("mounted all the same, and goes on by itself: %s", exc.strerror)
        return known
    if not names:
        raise os_error(errno.ENODEV, url, "the server offers no systems to this user")
    state.offers(names)
    return names


def _set_strays_aside(content: ContentCache, journal: Journal, errors: ErrorLog) -> None:
    """Move what an earlier process left without a record out of the way: nothing is deleted."""
    known = {name for each in journal.records() for name in (each.ident, each.promised)}
    for ident in content.left_behind():
        if ident not in known:
            errors.report("/", f"left by a mount that died: {content.set_aside(ident, 'stray')}")


def _require_outside(mountpoint: str, *directories: Path) -> None:
    for directory in directories:
        if is_below(os.path.abspath(directory), mountpoint):
            raise os_error(
                errno.EINVAL, str(directory), "a directory that the mount works with lies in it"
            )
