"""Clean names for files whose own the cluster's scripts can't carry.

FirecREST's transfer scripts don't quote: a blank or a dollar in a path makes another path of it.
Such a file is staged through a symlink with a plain name, which is removed afterwards.
"""

from __future__ import annotations

import errno
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import os_error
from firecrestfs.paths import directory_of

from .bundle import OUR_PREFIX
from .leftovers import Leftovers

#: What no script of either version makes anything else of.
_PLAIN = re.compile(r"[\w/.+@:%^=~#-]+")
#: Where one directory refuses a link, another may take it.
_ELSEWHERE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOSPC})


def is_plain(path: str) -> bool:
    """Tell whether scripts of FirecREST carry *path* unchanged."""
    return bool(_PLAIN.fullmatch(path))


class Aliases:
    """Makes and removes symlinks with plain names on one system. Thread-safe."""

    def __init__(
        self, client: TypedClient, system: str, leftovers: Leftovers, homes: Sequence[str]
    ) -> None:
        """*homes* are directories of the user's own."""
        self._client = client
        self._system = system
        self._leftovers = leftovers
        self._homes = [home for home in homes if is_plain(home)]

    @contextmanager
    def of(self, path: str) -> Iterator[str]:
        """Yield a plain name of *path* that is good while the body runs; itself if it is one."""
        if is_plain(path):
            yield path
            return
        alias = self._make(path)
        try:
            yield alias
        finally:
            self._leftovers.remove(alias)

    def _make(self, path: str) -> str:
        refusal: OSError | None = None
        for directory in self._places(path):
            alias = f"{directory.rstrip('/')}/{OUR_PREFIX}{uuid.uuid4().hex}"
            self._leftovers.expect(alias)
            try:
                self._client.symlink(self._system, path, alias, new=True)
            except OSError as exc:
                if exc.errno not in _ELSEWHERE:
                    raise
                self._leftovers.gone(alias)
                refusal = exc
            else:
                return alias
        raise refusal or os_error(
            errno.EINVAL, path, "FirecREST can't stage a file of this name: rename it"
        )

    def _places(self, path: str) -> list[str]:
        own = directory_of(path)
        return [*self._homes, own] if is_plain(own) else self._homes
