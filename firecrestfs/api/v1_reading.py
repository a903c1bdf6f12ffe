"""The content of files on FirecREST v1: whole, by ranges, and as text.

`download` takes ranges and is exact, but reads the whole file on the cluster, so its size limit
stays. Beyond it only the text tools are left: exact, too, for v1 refuses what isn't UTF-8.
"""

from __future__ import annotations

import errno
import re
import stat
from abc import ABC, abstractmethod
from typing import Any

from ..errors import FirecrestException
from .faults import Inexact, TooLarge, refusal
from .session import Answer
from .v1_http import SLOWEST, Sender, fit_path, text_of

#: Bytes of a UTF-8 character that a cut may separate from the rest.
_CUT = 3


class ReadingV1(Sender, ABC):
    """Reads files."""

    @abstractmethod
    def stat(self, system: str, path: str, *, dereference: bool = False) -> dict[str, Any]:
        """Return attributes; `ServerV1` can."""

    @abstractmethod
    def _most_output(self) -> int:
        """Return the bytes that one answer may hold; `ServerV1` knows."""

    def download(self, system: str, path: str, *, limit: int = 1 << 30) -> bytes:
        """Return the whole file. Raises EFBIG above *limit* bytes, EINVAL for what is no file."""
        body = self._downloaded(system, path, limit).body
        if not body:
            self._prove_empty(system, path)
        return body

    def _downloaded(self, system: str, path: str, limit: int, span: str = "") -> Answer:
        clean = fit_path(path)
        return self._read(
            "download",
            system,
            {"sourcePath": clean},
            path=clean,
            headers={"Range": span} if span else None,
            limit=limit,
            deadline_s=self._session.deadline_s + min(limit, 16 << 20) / SLOWEST,
        )

    def _prove_empty(self, system: str, path: str) -> None:
        """Raise EINVAL unless *path* is a file: FIFOs, sockets and devices come back empty."""
        mode = int(self.stat(system, path, dereference=True).get("mode", 0))
        if stat.S_IFMT(mode) and not stat.S_ISREG(mode):
            raise refusal(errno.EINVAL, "not a file on the cluster", path)

    def read_range(
        self, system: str, path: str, offset: int, size: int, total: int | None = None
    ) -> bytes:
        """Return exactly the bytes from *offset*, fewer only at the end of the file.

        Raises `Inexact` for what isn't text in files that are too large for a download. *total* is
        the size of a file that is known to be so.
        """
        try:
            if total is None:
                return self._by_range(system, path, offset, size)
        except TooLarge:
            pass
        try:
            return self._by_text(system, path, offset, size, total)
        except TooLarge as exc:
            raise Inexact(f"not in one answer: {exc.strerror}", path) from exc

    def _by_range(self, system: str, path: str, offset: int, size: int) -> bytes:
        span = f"bytes={offset}-{offset + size - 1}"
        try:
            answer = self._downloaded(system, path, 1 << 30, span)
        except FirecrestException as exc:
            if exc.responses and exc.responses[-1].status_code == 416:
                return b""
            raise
        if answer.status_code == 200:
            # Somebody in between doesn't pass ranges on, or the file is empty, or seems to be.
            if not answer.body:
                self._prove_empty(system, path)
            return answer.body[offset : offset + size]
        start = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
        if start is None or int(start[1]) != offset:
            raise Inexact("the server answered with another range", path)
        return answer.body[:size]

    def _by_text(self, system: str, path: str, offset: int, size: int, total: int | None) -> bytes:
        """Return a range by `head` or, near the end, by `tail` from a byte on."""
        most = self._most_output()
        if offset + size + _CUT < most:
            return self._by_head(system, path, offset, size)
        # More output than the limit would be cut off only after the command's whole time.
        end = total
        if end is None:
            end = int(self.stat(system, path, dereference=True).get("size", 0))
        if end - offset + _CUT < most:
            return self._by_tail(system, path, offset, size)
        raise Inexact("too deep inside a file that is too large for a direct download", path)

    def _by_head(self, system: str, path: str, offset: int, size: int) -> bytes:
        for more in range(_CUT + 1):
            data = self._cut(system, "head", path, {"bytes": str(offset + size + more)})
            if data is not None:
                return data[offset : offset + size]
        raise Inexact("not plain UTF-8 text; only a whole copy is exact", path)

    def _by_tail(self, system: str, path: str, offset: int, size: int) -> bytes:
        for more in range(min(_CUT, offset) + 1):
            params = {"bytes": str(offset - more + 1), "skip_beginning": "true"}
            data = self._cut(system, "tail", path, params)
            if data is not None:
                return data[more : more + size]
        raise Inexact("not plain UTF-8 text; only a whole copy is exact", path)

    def _cut(self, system: str, tool: str, path: str, params: dict[str, str]) -> bytes | None:
        """Return the bytes of a tool's text, None where the cut goes through a character."""
        clean = fit_path(path)
        try:
            text = text_of(self._read(tool, system, {"targetPath": clean, **params}, path=clean))
        except FirecrestException as exc:
            if exc.errno == errno.EILSEQ:
                return None
            raise
        return text.encode("utf-8", "surrogatepass")

    # -- text ---------------------------------------------------------------------------------

    def head(
        self, system: str, path: str, *, size: int = 0, lines: int = 0, skip: bool = False
    ) -> dict[str, Any]:
        """Return the first *size* bytes or *lines* as `content`; ten lines where both are 0."""
        params = _amount(size, lines) | ({"skip_ending": "true"} if skip else {})
        text = self._text(system, "head", path, params)
        if text is None:
            data = self._small(system, path)
            end = _end_of(data, size, lines, skip)
            text = data[:end].decode("utf-8", "replace")
        return {"content": text}

    def tail(
        self, system: str, path: str, *, size: int = 0, lines: int = 0, skip: bool = False
    ) -> dict[str, Any]:
        """Return the last *size* bytes or *lines* as `content`; *skip*: from that one on."""
        params = _amount(size, lines) | ({"skip_beginning": "true"} if skip else {})
        text = self._text(system, "tail", path, params)
        if text is None:
            data = self._small(system, path)
            start = _start_of(data, size, lines, skip)
            text = data[start:].decode("utf-8", "replace")
        return {"content": text}

    def view(self, system: str, path: str, *, size: int, offset: int = 0) -> str:
        """Return a part of a file as text; undecodable bytes are replaced."""
        return self.read_range(system, path, offset, size).decode("utf-8", "replace")

    def _text(self, system: str, tool: str, path: str, params: dict[str, str]) -> str | None:
        """Return a tool's text, None where v1 refuses it because it isn't UTF-8."""
        data = self._cut(system, tool, path, params)
        return None if data is None else data.decode("utf-8", "surrogatepass")

    def _small(self, system: str, path: str) -> bytes:
        return self._downloaded(system, path, 1 << 30).body


def _amount(size: int, lines: int) -> dict[str, str]:
    if size and lines:
        raise refusal(errno.EINVAL, "bytes or lines, not both")
    return {"bytes": str(size)} if size else {"lines": str(lines or 10)}


def _end_of(data: bytes, size: int, lines: int, skip: bool) -> int:
    """Return where `head` would stop."""
    if size:
        return max(len(data) - size, 0) if skip else size
    ends = _ends(data)
    kept = ends[:-lines] if skip and lines else ends[: lines or 10]
    return kept[-1] if kept else 0


def _start_of(data: bytes, size: int, lines: int, skip: bool) -> int:
    """Return where `tail` would start."""
    if size:
        return size - 1 if skip else max(len(data) - size, 0)
    starts = [0, *_ends(data)[:-1]] if data else [0]
    wanted = lines or 10
    if skip:
        return starts[wanted - 1] if wanted <= len(starts) else len(data)
    return starts[-wanted] if wanted <= len(starts) else 0


def _ends(data: bytes) -> list[int]:
    """Return where each line ends, its line break included."""
    found = [match.end() for match in re.finditer(rb"\n", data)]
    return found if data.endswith(b"\n") or not data else [*found, len(data)]
