"""Linker: makes hard links on the cluster, many by one archive.

A few are made one by one, each proven by its inode. For many the directories are listed before and
after: what has the name of a link, and the size and time of its file, where nothing was before, is
that link. Whatever is in doubt is looked at singly.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import is_transient
from firecrestfs.model import Attr
from firecrestfs.paths import common_directory, directory_of, relative

from .bundle import Bundler, Member

log = logging.getLogger(__name__)

#: From so many links on, listings are cheaper than a look at each.
_MANY = 4


@dataclass(frozen=True, slots=True)
class Wish:
    """One link to be made: `new` to the file at `old`, of which `nlink` names are known."""

    old: str
    new: str
    nlink: int = 1


class Linker:
    """Makes hard links on one system. Thread-safe; waits for the network."""

    def __init__(self, client: TypedClient, system: str, bundler: Bundler) -> None:
        self._client = client
        self._system = system
        self._bundler = bundler

    def link(
        self, wishes: Sequence[Wish], begin: Callable[[Mapping[str, Attr]], None]
    ) -> dict[str, Attr | OSError]:
        """Make all of *wishes*; return for each `new` what both names are now, or why not.

        *begin* is told, before anything is changed, what each file is whose link may come to be.
        EEXIST for a name that is taken, EXDEV where the cluster refuses to link.
        """
        done: dict[str, Attr | OSError] = {}
        if len(wishes) >= _MANY:
            done.update(self._link_many(wishes, begin))
        for each in wishes:
            if each.new not in done:
                done[each.new] = self._link_one(each, begin)
        return done

    def _link_one(self, wish: Wish, begin: Callable[[Mapping[str, Attr]], None]) -> Attr | OSError:
        try:
            return self._bundler.link(wish.old, wish.new, lambda source: begin({wish.new: source}))
        except OSError as exc:
            return exc

    def _link_many(
        self, wishes: Sequence[Wish], begin: Callable[[Mapping[str, Attr]], None]
    ) -> dict[str, Attr | OSError]:
        """Make those of *wishes* that one archive can make; return what is proven."""
        try:
            before = self._listed(wishes)
            going = [each for each in wishes if each.old in before and each.new not in before]
            if len(going) < _MANY:
                return {}
            begin({each.new: before[each.old] for each in going})
            refusal = self._refusal_of(going)
            after = self._listed(going)
        except OSError as exc:
            # Nothing can be asked now; or one by one will tell.
            return {each.new: exc for each in wishes} if is_transient(exc) else {}
        made = Counter(each.old for each in going)
        done: dict[str, Attr | OSError] = {}
        for each in going:
            if _is_one(before[each.old], after.get(each.new)):
                done[each.new] = replace(after[each.new], nlink=each.nlink + made[each.old])
            elif refusal is not None and is_transient(refusal):
                done[each.new] = refusal
        return done

    def _refusal_of(self, wishes: Sequence[Wish]) -> OSError | None:
        """Have the cluster make *wishes*; return what it said, which only a look can prove."""
        top = common_directory(path for each in wishes for path in (each.old, each.new))
        members = [Member(relative(each.new, top), link=relative(each.old, top)) for each in wishes]
        try:
            self._bundler.place(members, top, directory_of(wishes[0].new))
        except OSError as exc:
            log.info("%d links below %s: %s", len(wishes), top, exc)
            return exc
        return None

    def _listed(self, wishes: Iterable[Wish]) -> dict[str, Attr]:
        """Return what is in all directories of *wishes*, afresh."""
        directories = sorted(
            {directory_of(path) for each in wishes for path in (each.old, each.new)}
        )
        return {
            f"{directory.rstrip('/')}/{each.name}": each.attr
            for directory in directories
            for each in self._client.list(self._system, directory)
        }


def _is_one(file: Attr, link: Attr | None) -> bool:
    """Tell whether *link*, which wasn't there a moment ago, is a link to *file*."""
    return link is not None and (link.kind, link.size, link.listed) == (
        file.kind,
        file.size,
        file.listed,
    )
