"""The files of `.firecrestfs/`: what they show of a running mount, and what they make it do."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .api.auth import TokenSource
from .api.circuit import Trouble
from .cache.asides import LOST_NAME
from .config import CREDENTIALS, Config
from .door import interrupted
from .errors import os_error
from .kept import StateDirectory
from .paths import is_below
from .running import Mount, failures, swept
from .vfs.control import as_json
from .vfs.flights import SLICE_S
from .vfs.lostfound import LostFound
from .vfs.remote import RemoteFilesystem

#: After so many failures in vain `sync` says so; the stores are tried on.
_TRIES = 3
#: Where tokens come from.
_SOURCES = frozenset({"client_secret", "token", "token_file", "token_command"})


class Controls:
    """What the files of `.firecrestfs/` show and do. *tokens* makes the source of a Config."""

    def __init__(
        self,
        config: Config,
        mountpoint: str,
        log_path: Path | None,
        tokens: Callable[[Config], TokenSource],
    ) -> None:
        self._tokens = tokens
        self._config = config
        self._mountpoint = mountpoint
        self._log_path = log_path
        self._since = time.time()
        self.mount: Mount | None = None

    def reads(self) -> dict[str, Callable[[], str]]:
        """Return the files that are made on reading."""
        return {
            "status.json": self._status,
            "queue": self._queue,
            "errors": lambda: "".join(f"{line}\n" for line in self._wired().errors.lines()),
            "log": self._log,
            "stats.json": lambda: as_json({"requests": self._wired().client.stats()}),
        }

    def commands(self) -> dict[str, Callable[[str], str]]:
        """Return the files that carry out what is written into them."""
        return {"refresh": self._refresh, "ctl": self._ctl}

    def lost(self) -> LostFound:
        """Return what `lost+found/` shows."""
        return LostFound(self._config.local_state_dir / LOST_NAME)

    def _wired(self) -> Mount:
        assert self.mount is not None
        return self.mount

    def _status(self) -> str:
        mount = self._wired()
        return as_json(
            {
                "pid": os.getpid(),
                "url": self._config.url,
                "mountpoint": self._mountpoint,
                "state_dir": str(self._config.local_state_dir),
                "cache_dir": str(self._config.local_cache_dir),
                "since": self._since,
                "systems": sorted(mount.namespace.names()),
                "connected": sorted(mount.namespace.connected()),
                "unreachable": _told(mount.client.circuit.unreachable()),
                "credentials": _told(mount.client.circuit.refused()),
                "draining": mount.operations.draining,
                "pending": mount.pending(),
                "transfers": [row.as_dict(f"/{system}") for system, row in mount.under_way()],
                "errors": mount.errors.lines()[-5:],
            }
        )

    def _queue(self) -> str:
        rows = self._wired().pending()
        lines = [f"{row['state']:8} {row['path']}  {row['error']}".rstrip() for row in rows]
        lines += [row.line(f"/{system}") for system, row in self._wired().under_way()]
        return "".join(f"{line}\n" for line in lines)

    def _log(self) -> str:
        if self._log_path is None:
            return ""
        with self._log_path.open("rb") as file:
            file.seek(max(0, self._log_path.stat().st_size - 65536))
            return file.read().decode("utf-8", "replace")

    def _refresh(self, path: str) -> str:
        """Drop what is believed at and below *path*, a path within the mount."""
        for _, files, inside in self._below(path):
            files.refresh(inside)
        for name, jobs in self._wired().jobs().items():
            if is_below(f"/{name}", path or "/") or is_below(path, f"/{name}"):
                jobs.refresh("/")
        return ""

    def _ctl(self, line: str) -> str:
        """Carry out `VERB PATH`; the answer is JSON, read from the same descriptor."""
        verb, _, rest = line.partition(" ")
        verbs = {
            "sync": self._sync,
            "pending": self._pending,
            "retry": self._retry,
            "discard": lambda path: _refusal_or(lambda: self._discard(path)),
            "login": lambda text: _refusal_or(lambda: self._login(text)),
            "fetch": self._fetch,
            "onsite": self._onsite,
        }
        if verb not in verbs:
            raise os_error(errno.EINVAL, "ctl", f"unknown command: {verb}")
        # Paths begin with a slash; those with a line break in them come as JSON.
        return as_json(verbs[verb](json.loads(rest) if rest.startswith('"') else rest))

    def _sync(self, path: str) -> dict[str, Any]:
        self._try_anew()
        failed, marks = self._left(path), self._wired().marks()
        tops: list[str] = []
        for name, files, inside in self._below(path):
            # A link is part of what is to be stored, as is what it leads to.
            for top in dict.fromkeys((inside, files.followed(inside))):
                stores = files.stores.flush(top, None, interrupted, patience=_TRIES)
                failed |= failures(name, stores)
                tops.append(f"/{name}{top}".rstrip("/"))
            failed |= swept(name, files, math.inf, interrupted)
        # What was refused and taken back isn't there either.
        refused = self._wired().refused(marks).items()
        failed |= {each: why for each, why in refused if any(is_below(each, top) for top in tops)}
        return {"failed": failed}

    def _left(self, path: str) -> dict[str, str]:
        """Take up what an earlier process left, part of what is to be stored; return what can't.

        The systems that *path* concerns, with the reasons.
        """
        self._wired().recover_rest()
        while self._wired().recovering:
            if interrupted():
                raise os_error(errno.EINTR)
            time.sleep(SLICE_S)
        return {
            f"/{name}": reason
            for name, reason in self._wired().left.items()
            if is_below(f"/{name}", path or "/") or is_below(path, f"/{name}")
        }

    def _fetch(self, path: str) -> dict[str, Any]:
        """Return when all of the file at *path*, a path within the mount, is here, or why not."""
        filesystem, inside = self._wired().namespace.route(path)
        if not isinstance(filesystem, RemoteFilesystem):
            raise os_error(errno.EINVAL, path, "not a file of a cluster")
        return _refusal_of(lambda: filesystem.fetch(inside))

    def _onsite(self, text: str) -> dict[str, Any]:
        """Carry out a command on the cluster itself: *text* is JSON, the verb and its paths."""
        verb, *paths = json.loads(text)
        routed = [self._wired().namespace.route(path) for path in paths]
        filesystem = routed[0][0]
        if not isinstance(filesystem, RemoteFilesystem):
            raise os_error(errno.EINVAL, paths[0], "not a file of a cluster")
        if any(each is not filesystem for each, _ in routed):
            raise os_error(errno.EXDEV, paths[-1], "not on the same cluster")
        return _refusal_of(lambda: filesystem.onsite.run(verb, [inside for _, inside in routed]))

    def _retry(self, path: str) -> dict[str, Any]:
        """Try again what has failed; return what fails again."""
        self._try_anew()
        failed = self._left(path)
        tried = [
            (name, files, each)
            for name, files, inside in self._below(path)
            for each in files.waiting.retry(_top(files, inside))
        ]
        end = time.monotonic() + self._config.op_timeout
        while any(files.waiting.is_undecided(each) for _, files, each in tried):
            if interrupted() or time.monotonic() > end:
                break
            time.sleep(SLICE_S)
        for name, files, each in tried:
            rows = {path: row.error for path, row in files.stores.pending() if path == each}
            failed |= failures(name, rows)
        return {"tried": [f"/{name}{each}" for name, _, each in tried], "failed": failed}

    def _pending(self, path: str) -> dict[str, Any]:
        tops = [
            f"/{name}{_top(files, inside)}".rstrip("/") for name, files, inside in self._below(path)
        ]
        connected = self._wired().files()
        rows = [
            row
            for row in self._wired().pending()
            if any(is_below(row["path"], top) for top in tops)
            or (_system_of(row["path"]) not in connected and is_below(row["path"], path or "/"))
        ]
        kept = self._kept() if rows else {}
        return {"pending": [row | kept.get(row["path"], {}) for row in rows]}

    def _kept(self) -> dict[str, dict[str, Any]]:
        """Return where on this machine the bytes are of what waits, by path.

        In the mount they can't always be had: their directory may be gone from the cluster.
        """
        directory = StateDirectory(self._config.local_state_dir)
        return {
            row.path: {
                "local": str(row.local),
                "start": row.start,
                "later": str(row.unclosed or ""),
            }
            for row in directory.rows_of(self._wired().journal.records())
            if row.local is not None
        }

    def _discard(self, path: str) -> dict[str, Any]:
        system = _system_of(path)
        if system and system not in self._wired().files():
            text = "not taken up before its system answers: `firecrestfs umount --now`, then this"
            raise os_error(errno.EBUSY, path, text)
        gone: dict[str, str] = {}
        for name, files, inside in self._below(path):
            found = files.waiting.discard(_top(files, inside))
            gone |= {f"/{name}{each}": where for each, where in found.items()}
        return {"discarded": gone}

    def _login(self, text: str) -> dict[str, Any]:
        """Use the credentials in the JSON *text*, or those that are there, and go on."""
        given = json.loads(text) if text.strip() else {}
        secrets: dict[str, Any] = {key: str(given[key]) for key in CREDENTIALS & set(given)}
        if _SOURCES & set(secrets):
            # What isn't given any more would go before what is.
            secrets = dict.fromkeys(_SOURCES - {"client_secret"}, "") | secrets
        changed = replace(self._config, **secrets)
        if changed.key != self._config.key:
            raise os_error(errno.EINVAL, "ctl", "those are for another mount: unmount this one")
        mount = self._wired()
        if changed != self._config:
            mount.client.use_credentials(self._tokens(changed))
            self._config = changed
        self._try_anew()
        try:
            mount.client.systems()
        except OSError as exc:
            return {"error": exc.strerror or str(exc)}
        mount.resume()
        return {"error": "", "pending": len(mount.pending())}

    def _try_anew(self) -> None:
        client = self._wired().client
        client.renew_credentials()
        client.circuit.doubt()

    def _below(self, path: str) -> Iterator[tuple[str, RemoteFilesystem, str]]:
        """Yield the systems that *path*, a path within the mount, concerns, and where in each."""
        for name, files in self._wired().files().items():
            prefix = f"/{name}"
            if is_below(prefix, path or "/"):
                yield name, files, "/"
            elif is_below(path, prefix):
                yield name, files, path[len(prefix) :]


def _system_of(path: str) -> str:
    return path.lstrip("/").partition("/")[0]


def _top(files: RemoteFilesystem, inside: str) -> str:
    """Return where what *inside* means waits: there, else where links in it lead to.

    What has been a link may be something else by now, or be what waits itself.
    """
    return inside if files.waiting.any_below(inside) else files.followed(inside, ask=False)


def _refusal_of(act: Callable[[], None]) -> dict[str, Any]:
    """Do it and return why it was refused; nothing where it wasn't."""

    def run() -> dict[str, Any]:
        act()
        return {}

    return _refusal_or(run)


def _refusal_or(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what *act* does, or why it was refused: the kernel passes on no words."""
    try:
        return act()
    except OSError as exc:
        if exc.errno == errno.EINTR:
            raise
        words = exc.strerror or str(exc)
        return {"errno": exc.errno, "error": words, "path": exc.filename or ""}


def _told(trouble: Trouble | None) -> dict[str, Any] | None:
    return None if trouble is None else {"since": trouble.since, "reason": trouble.reason}
