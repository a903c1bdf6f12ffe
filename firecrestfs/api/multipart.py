"""The body of an upload, made by hand."""

from __future__ import annotations

import errno
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .faults import refusal
from .names import upload_name
from .transport import GaveUp


class File(Protocol):
    """What a body is read from: a seekable binary file."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        ...


class Multipart:
    """The body of an upload: form fields, then one part named `file`, of known length.

    *content* is memory or a seekable file.
    Made by hand because HTTP libraries quote the name in ways that the server takes literally.
    """

    def __init__(
        self,
        name: str,
        content: bytes | File,
        size: int,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.size = size
        self._content = content
        disposition = f'form-data; name="file"; filename="{upload_name(name)}"'
        plain = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in (fields or {}).items()
        )
        self._head = (
            f"{plain}--{boundary}\r\nContent-Disposition: {disposition}\r\n"
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def open(self) -> Any:
        """Return the whole body, or a reader of it, from the start."""
        if isinstance(self._content, bytes):
            return self._head + self._content + self._tail
        self._content.seek(0)
        return _Parts(self._head, self._content, self.size, self._tail)


class _Parts:
    """Reads head, exactly *size* bytes of a file, and tail, one after the other."""

    def __init__(self, head: bytes, file: File, size: int, tail: bytes) -> None:
        self._length = len(head) + size + len(tail)
        self._head, self._file, self._left, self._tail = head, file, size, tail

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        """Return the next piece; it may be shorter than *size*. EIO if the file has shrunk."""
        if self._head:
            piece, self._head = self._head, b""
            return piece
        if self._left:
            return self._read_file(size)
        piece, self._tail = self._tail, b""
        return piece

    def _read_file(self, size: int) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        piece = self._file.read(wanted)
        if not piece:
            raise GaveUp(refusal(errno.EIO, "the local file became shorter while it was sent"))
        self._left -= len(piece)
        return piece


class Window:
    """*size* bytes of a shared file from *start*, as a body that can be sent again.

    Threads that read other parts of the file share its *lock*; *count* hears of every piece.
    """

    def __init__(
        self,
        file: File,
        lock: threading.Lock,
        start: int,
        size: int,
        count: Callable[[int], None],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._file, self._lock, self._count, self._wanted = file, lock, count, wanted
        self._start, self._size, self._done = start, size, 0

    def __len__(self) -> int:
        return self._size

    def rewind(self) -> int:
        """Start again; return how many bytes had been read."""
        done, self._done = self._done, 0
        return done

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to the start: `Multipart` asks for nothing else. What was read stays counted."""
        return 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next piece; empty at the end. EIO if the file has shrunk."""
        if not self._wanted():
            text = "what was to be sent is not wanted any more"
            raise GaveUp(refusal(errno.ECANCELED, text, transient=True))
        left = self._size - self._done
        wanted = left if size < 0 else min(size, left)
        with self._lock:
            self._file.seek(self._start + self._done)
            piece = self._file.read(wanted)
        if wanted and not piece:
            raise GaveUp(refusal(errno.EIO, "the local file became shorter while it was sent"))
        self._done += len(piece)
        self._count(len(piece))
        return piece
