"""CompressedReads: large text files that fit one request compressed, without staging.

    beginning ─ compress on the cluster ─ download ─ the whole file, proven to be the version known

Only a file whose beginning is known, and says that it will fit, is compressed there: a wrong guess
costs a second, and the file is staged then.
"""

from __future__ import annotations

import errno
import io
import logging
import tarfile
import threading
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.errors import is_transient, os_error
from firecrestfs.model import Attr, Features, System

from .bundle import OUR_PREFIX
from .leftovers import Leftovers

log = logging.getLogger(__name__)

#: Bytes of the beginning that must be known.
_HEAD = 128 << 10
#: A file is compressed on the cluster, by about 50 MB/s, up to so many times what one request
#: carries and so many bytes: that takes a second, and as much memory here.
_TIMES, _MOST = 8, 32 << 20
#: The rest may be worse to compress than the beginning.
_SLACK = 1.2
#: More of them at the same time would let small files wait: those are staged.
_AT_ONCE = 2
_GZIP = 31
_BLOCK = 1 << 20
_REMEMBERED = 1000


class CompressedReads:
    """Brings whole files of one system here. Thread-safe; `fetch` waits for the network."""

    def __init__(
        self,
        client: TypedClient,
        system: System,
        features: Features,
        leftovers: Leftovers,
        homes: Sequence[str],
        is_same: Callable[[str, Attr, Attr], bool],
    ) -> None:
        """*homes*: directories of the user's own, for archives. *is_same* as for `TextReads`."""
        self._client = client
        self._system = system
        self._leftovers = leftovers
        self._homes = homes
        self._is_same = is_same
        self.head_bytes = min(_HEAD, system.limits.download // 2)
        most = min(_TIMES * system.limits.download, _MOST)
        self._bound = most if features.archives and "gzip" in features.packings else 0
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()  # guards _refused
        self._refused: OrderedDict[str, None] = OrderedDict()

    def may_come(self, file: CachedFile) -> bool:
        """Tell whether *file* may come this way, as far as its size tells."""
        return file.attr.size <= self._bound and file.ident not in self._refused

    def fetch(self, path: str, file: CachedFile) -> memoryview | None:
        """Return the content of *file*, None where it doesn't come this way.

        `head_bytes` of it must be here. Raises ESTALE where they are of another version, and what
        lets nothing else come, either.
        """
        base, head = file.base, file.read(self.head_bytes, 0)
        if base is None or not head or not self.may_come(file):
            return None
        guess = file.attr.size * len(zlib.compress(head)) // len(head)
        if guess * _SLACK > self._system.limits.download:
            self.refuse(file)
            return None
        if not self._turns.acquire(blocking=False):
            return None
        try:
            raw = self._brought(path, file.attr.size, guess)
        finally:
            self._turns.release()
        if raw is None:
            self.refuse(file)
            return None
        if raw[: len(head)] != head or not self._is_now(path, base):
            # A second write within one second changes no stat.
            raise os_error(errno.ESTALE, path, "it changed on the cluster: open it again")
        return raw

    def refuse(self, file: CachedFile) -> None:
        """Let *file* not come this way: not every reader shall try it."""
        with self._lock:
            self._refused[file.ident] = None
            while len(self._refused) > _REMEMBERED:
                self._refused.popitem(last=False)

    def _brought(self, path: str, size: int, guess: int) -> memoryview | None:
        """Return the *size* bytes of *path*, None where they don't come this way."""
        text = "%s comes by one request, compressed: its %d bytes become some %d of the %d it takes"
        log.info(text, path, size, guess, self._system.limits.download)
        folder = self._homes[0] if self._homes else path.rpartition("/")[0]
        archive = f"{folder.rstrip('/')}/{OUR_PREFIX}{uuid.uuid4().hex}.tar"
        self._leftovers.expect(archive)
        lost = False
        try:
            self._client.compress(self._system.name, path, archive)
            packed = self._stat(archive).size
            # Far above its limit the server lets one wait for its refusal.
            if packed > self._system.limits.download:
                log.info("%s doesn't come so: it has %d bytes compressed", path, packed)
                return None
            return _unpacked(self._client.download(self._system.name, archive), size)
        except OSError as exc:
            lost = getattr(exc, "ambiguous", False)
            if is_transient(exc) and not lost:
                raise
            if exc.errno == errno.ETIMEDOUT:
                self._bound = min(self._bound, size // 2)
            log.info("%s doesn't come compressed: %s", path, exc)
            return None
        finally:
            self._remove(archive, lost)

    def _remove(self, archive: str, lost: bool) -> None:
        """Remove *archive*; where an answer was *lost*, a sweep looks for it once more."""
        try:
            self._client.remove_proven(self._system.name, archive)
        except OSError as exc:
            log.info("%s is left behind for now: %s", archive, exc)
            lost = True
        if lost:
            self._leftovers.abandon(archive)
        else:
            self._leftovers.gone(archive)

    def _is_now(self, path: str, base: Attr) -> bool:
        return self._is_same(path, base, self._stat(path))

    def _stat(self, path: str) -> Attr:
        return self._client.stat(self._system.name, path)


def _unpacked(archive: bytes, size: int) -> memoryview | None:
    """Return the one file in *archive*, None where it isn't one of *size* bytes."""
    unpack = zlib.decompressobj(_GZIP)
    try:
        raw = unpack.decompress(archive, size + _BLOCK)
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            member = tar.next()
    except (zlib.error, tarfile.TarError):
        return None
    # At its end zlib has compared the checksum.
    if not unpack.eof or member is None or not member.isreg() or member.size != size:
        return None
    return memoryview(raw)[member.offset_data : member.offset_data + size]
