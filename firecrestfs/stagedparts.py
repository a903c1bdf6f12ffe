"""What staged transfers of one system are made of: a part of the composition root."""

from __future__ import annotations

from dataclasses import dataclass

from .api import TypedClient
from .cache.content import ContentCache
from .cache.transfers import Transfers
from .config import Config
from .door import caller, patience
from .model import System, UserInfo
from .transfer.aliases import Aliases
from .transfer.appends import Appends
from .transfer.bundle import Bundler
from .transfer.compressed import Compressed
from .transfer.compressed_reads import CompressedReads
from .transfer.engine import TransferEngine
from .transfer.large_reads import LargeReads
from .transfer.large_stores import LargeStores
from .transfer.leftovers import Leftovers
from .transfer.placing import Placing
from .transfer.progress import Board
from .transfer.remote_job import RemoteJobs
from .transfer.staging import Staging
from .transfer.text_reads import TextReads
from .transfer.touching import Toucher
from .vfs.fetching import Fetching
from .vfs.flights import Flights
from .vfs.overlay import Overlay
from .vfs.steady import Steady
from .vfs.stores import Stores
from .vfs.tree import RemoteTree


@dataclass(frozen=True)
class StagedParts:
    """What the ways of large files, to and from one system, share."""

    client: TypedClient
    user: UserInfo
    transfers: Transfers
    hydrate: str
    board: Board
    leftovers: Leftovers
    aliases: Aliases
    jobs: RemoteJobs
    stores: LargeStores
    toucher: Toucher
    homes: list[str]

    @staticmethod
    def of(
        client: TypedClient,
        system: System,
        user: UserInfo,
        bundler: Bundler,
        transfers: Transfers,
        homes: list[str],
        config: Config,
    ) -> StagedParts:
        """Wire them; *homes* are directories of the user's own."""
        name, features, stopped = system.name, client.features(system.name), transfers.stopped
        board, leftovers = Board(), Leftovers(client, name, transfers)
        aliases = Aliases(client, name, leftovers, homes)
        jobs = RemoteJobs(client, system, user, leftovers, homes, stopped)
        hydrate, toucher = config.hydrate, Toucher(client, name, jobs)
        placing = Placing(client, name, user, features, bundler, jobs, toucher.given)
        appends = Appends(client, name, jobs, transfers)
        stores = LargeStores(
            client,
            system,
            user,
            features,
            aliases,
            placing,
            appends,
            transfers,
            leftovers,
            board,
            stopped,
            Compressed(bundler, features.archives and "gzip" in features.compressions),
            config.verify,
        )
        return StagedParts(
            client,
            user,
            transfers,
            hydrate,
            board,
            leftovers,
            aliases,
            jobs,
            stores,
            toucher,
            homes,
        )

    def fetching(
        self,
        tree: RemoteTree,
        overlay: Overlay,
        content: ContentCache,
        engine: TransferEngine,
        stores: Stores,
        steady: Steady,
        flights: Flights,
    ) -> Fetching:
        """Return what brings bytes of the system of *tree* here."""

        def origin_of(ident: str) -> str:
            entry = overlay.by_ident(ident)
            return "" if entry is None else entry.origin

        client, system, stopped = self.client, tree.system, self.transfers.stopped
        staging = Staging(client, system, self.user, self.aliases, self.leftovers, stopped)
        same = engine.holds_version
        large = LargeReads(staging, client.objects, content, self.board, origin_of, same, stopped)
        fetching = Fetching(
            tree,
            overlay,
            content,
            engine,
            large,
            TextReads(client, system, same),
            CompressedReads(client, system, tree.features, self.leftovers, self.homes, same),
            flights,
            patience,
            stores.give_up,
            stores.give_modes,
            steady,
            caller,
            self.hydrate,
        )
        stores.landing.complete = fetching.complete
        return fetching
