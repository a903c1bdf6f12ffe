"""Remover: takes from the cluster what was unlinked here, and nothing else.

`rm` on a cluster is `rm -r` and asks nothing. So a fresh look goes first: a tree is removed as a
whole only where a recursive listing shows just what was unlinked, each file in the version that
was known here. Whatever has come or changed since stays.
"""

from __future__ import annotations

import errno
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import is_transient, os_error
from firecrestfs.model import Attr, Kind, Source
from firecrestfs.paths import directory_of, is_below

from .engine import TransferEngine

log = logging.getLogger(__name__)

Results = dict[str, OSError | None]
#: From so many files of one directory on, one listing is cheaper than a look at each.
_LIST_FROM = 3
_CHANGED = "it changed on the cluster after it was removed here: kept there"


@dataclass(frozen=True, slots=True)
class Unlinked:
    """One entry to remove at the absolute remote `path`.

    `base` is what was known of it. Where that is None, only what a store of ours that failed may
    have left there is removed; `sent` are the size and SHA-256 of such stores, `torn` the bytes of
    the last, `link` is the text of a symlink.
    """

    path: str
    kind: Kind
    base: Attr | None
    sent: Sequence[tuple[int, str]] = ()
    torn: bytes = b""
    link: str = ""


class Remover:
    """Removes entries of one system. Thread-safe; waits for the network."""

    def __init__(
        self,
        client: TypedClient,
        system: str,
        engine: TransferEngine,
        is_leftover: Callable[[str], bool],
    ) -> None:
        """*is_leftover* tells what, of all that was never shown, is ours and in nobody's use."""
        self._is_leftover = is_leftover
        self._client = client
        self._system = system
        self._engine = engine

    def remove(self, wanted: Sequence[Unlinked]) -> Results:
        """Remove all of *wanted*; return for each path None or why it is still there.

        ESTALE for what has changed, ENOTEMPTY for directories that hold something else.
        """
        table = {each.path: each for each in wanted}
        results: Results = {}
        singles: defaultdict[str, list[Unlinked]] = defaultdict(list)
        for each in wanted:
            if _above(each.path, table) is not None:
                continue
            if each.kind is Kind.DIRECTORY:
                results.update(self._tree_results(each, table))
            else:
                singles[directory_of(each.path)].append(each)
        for directory, files in singles.items():
            results.update(self._remove_files(directory, files))
        return results

    # -- single files --------------------------------------------------------------------------

    def _remove_files(self, directory: str, files: Sequence[Unlinked]) -> Results:
        listed: Mapping[str, Attr] | None = None
        if len(files) >= _LIST_FROM:
            try:
                entries = self._client.list(self._system, directory)
                listed = {f"{directory.rstrip('/')}/{each.name}": each.attr for each in entries}
            except OSError as exc:
                log.info("%s: looking at each file singly: %s", directory, exc)
        results: Results = {}
        for file in files:
            try:
                now = listed.get(file.path) if listed is not None else self._stat(file.path)
                results[file.path] = self._remove_file(file, now)
            except OSError as exc:
                results[file.path] = exc
        return results

    def _remove_file(self, file: Unlinked, now: Attr | None) -> OSError | None:
        if now is None:
            return None
        if not self._is_ours(file, now):
            return os_error(errno.ESTALE, file.path, _CHANGED)
        self._rm(file.path)
        return None

    def _is_ours(self, file: Unlinked, now: Attr) -> bool:
        """Tell whether *now* is what was unlinked, or what a store of ours left there."""
        if now.kind is Kind.DIRECTORY or (file.base is not None and now.kind is not file.base.kind):
            return False
        if now.kind is Kind.SYMLINK and file.base is None and file.link:
            text = now.target or self._engine.files.readlink(file.path)
            return file.kind is Kind.SYMLINK and text == file.link
        if now.kind is not Kind.FILE:
            return file.base is not None
        base = file.base
        for known in [] if base is None else {base, self._engine.newest_of(base)}:
            # A link made to it, by a rename of ours that was given up, is no reason to keep it.
            same = known.ino and known.ino == now.ino
            known = replace(known, ctime_ns=now.ctime_ns) if same else known
            if self._engine.is_same_version(file.path, known, now):
                return True
        given_up = self._engine.large.given_up
        if now.source is Source.LS and given_up.may_have_stored(file.path):
            now = self._engine.files.stat_or_none(file.path) or now
        if given_up.was_stored(now):
            return True
        return bool(file.sent) and self._engine.holds(file.path, now, file.sent, file.torn)

    def _rm(self, path: str) -> None:
        """Remove *path*, which was proven a moment ago; a lost answer is settled."""
        self._engine.files.remove_proven(path)

    def _stat(self, path: str) -> Attr | None:
        return self._engine.files.stat_or_none(path)

    # -- trees ---------------------------------------------------------------------------------

    def _tree_results(self, top: Unlinked, table: Mapping[str, Unlinked]) -> Results:
        """Remove *top*; a failure is that of everything below it."""
        try:
            return self._remove_tree(top, table)
        except OSError as exc:
            return {path: exc for path in table if is_below(path, top.path)}

    def _remove_tree(self, top: Unlinked, table: Mapping[str, Unlinked]) -> Results:
        inside = {path: each for path, each in table.items() if is_below(path, top.path)}
        try:
            entries = self._client.list(self._system, top.path, recursive=True)
        except FileNotFoundError:
            return dict.fromkeys(inside)
        except OSError as exc:
            # What is a link now must not be gone through, step by step.
            lasting = is_transient(exc) and exc.errno != errno.ETIMEDOUT
            if lasting or exc.errno == errno.ENOTDIR:
                raise
            log.info("%s can't be listed as a whole: %s", top.path, exc)
            return self._remove_by_steps(inside)
        listed = {f"{top.path}/{each.name}": each.attr for each in entries}
        left = self._engine.large.given_up.left_by(inside)
        strange = [
            path
            for path, now in listed.items()
            if not (self._is_leftover(path) or left(path) or self._was_seen(path, now, inside))
        ]
        if not strange:
            self._rm(top.path)
            return dict.fromkeys(inside)
        return self._remove_around(strange, inside, listed)

    def _was_seen(self, path: str, now: Attr, inside: Mapping[str, Unlinked]) -> bool:
        """Tell whether what is listed at *path* is what was unlinked there."""
        known = inside.get(path)
        if known is None:
            return False
        if known.kind is Kind.DIRECTORY or now.kind is Kind.DIRECTORY:
            return now.kind is known.kind
        return self._is_ours(known, now)

    def _remove_around(
        self, strange: Iterable[str], inside: Mapping[str, Unlinked], listed: Mapping[str, Attr]
    ) -> Results:
        """Remove what was unlinked but for *strange* and the directories above those."""
        kept = set(strange)
        for path in strange:
            kept.update(each for each in inside if is_below(path, each))
        results: Results = {}
        for path, each in sorted(inside.items()):
            if path in kept:
                code = errno.ENOTEMPTY if each.kind is Kind.DIRECTORY else errno.ESTALE
                text = (
                    "something that was not seen here is in it: kept"
                    if each.kind is Kind.DIRECTORY
                    else _CHANGED
                )
                results[path] = os_error(code, path, text)
            elif _above(path, inside) in kept and path in listed:
                results[path] = self._failure_of(path)
            else:
                # It went with its directory, or was gone before.
                results[path] = None
        return results

    def _failure_of(self, path: str) -> OSError | None:
        try:
            self._rm(path)
        except OSError as exc:
            return exc
        return None

    def _remove_by_steps(self, inside: Mapping[str, Unlinked]) -> Results:
        """Remove a tree that can't be listed at once: files by directory, then the directories."""
        results: Results = {}
        files: defaultdict[str, list[Unlinked]] = defaultdict(list)
        for path, each in inside.items():
            if each.kind is not Kind.DIRECTORY:
                files[directory_of(path)].append(each)
        for directory, members in files.items():
            results.update(self._remove_files(directory, members))
        for path in sorted(inside, key=len, reverse=True):
            if inside[path].kind is Kind.DIRECTORY:
                # What goes at a later try is no reason to show its directory again.
                later = [exc for each, exc in results.items() if exc and is_below(each, path)]
                waits = next((exc for exc in later if is_transient(exc)), None)
                results[path] = waits or self._rmdir(path)
        return results

    def _rmdir(self, path: str) -> OSError | None:
        try:
            self._engine.files.remove(path, Kind.DIRECTORY)
        except FileNotFoundError:
            return None
        except OSError as exc:
            return exc
        return None


def _above(path: str, table: Mapping[str, Unlinked]) -> str | None:
    """Return the nearest directory above *path* that is in *table*."""
    directory = directory_of(path)
    while directory != "/":
        if directory in table:
            return directory
        directory = directory_of(directory)
    return None
