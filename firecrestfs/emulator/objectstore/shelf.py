"""The files in which the object store keeps what it holds."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

CHUNK = 256 * 1024


@dataclasses.dataclass(frozen=True)
class Piece:
    """One file: a whole object, or a part of one."""

    path: Path
    size: int
    md5: str


@dataclasses.dataclass(frozen=True)
class Blob:
    """One stored object. Never changed: a new body of the same key is a new blob."""

    pieces: tuple[Piece, ...]
    etag: str  # without the quotes
    stored: float  # when it came
    visible: float  # from when on it can be seen

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return sum(piece.size for piece in self.pieces)

    def open(self) -> BinaryIO:
        """Return its bytes as a file to read and seek in."""
        return io.BufferedReader(_PiecesReader(self.pieces), CHUNK)


class Shelf:
    """A directory of pieces. Safe from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    def write(self, chunks: Iterable[bytes]) -> Piece:
        """Write a piece; nothing of it stays if *chunks* raises."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{os.getpid()}-{next(self._numbers)}"
        digest = hashlib.md5(usedforsecurity=False)
        size = 0
        try:
            with open(path, "wb", buffering=0) as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                    size += len(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Piece(path, size, digest.hexdigest())

    def remove_folder(self) -> None:
        """Remove the directory if it is there and empty."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    @staticmethod
    def remove(pieces: Iterable[Piece]) -> None:
        """Remove pieces. Who has one open may read on."""
        for piece in pieces:
            piece.path.unlink(missing_ok=True)


class _PiecesReader(io.RawIOBase):
    """Reads files one behind the other, with one of them open at a time."""

    def __init__(self, pieces: tuple[Piece, ...]) -> None:
        self._pieces = pieces
        self._ends = list(itertools.accumulate(piece.size for piece in pieces))
        self._at = 0
        self._number = -1
        self._file: io.FileIO | None = None
        if pieces:
            self._use(0)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        size = self._ends[-1] if self._ends else 0
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read up to the end of the piece that the position is in."""
        number = next((i for i, end in enumerate(self._ends) if self._at < end), None)
        if number is None:
            return 0
        file = self._use(number)
        start = self._ends[number] - self._pieces[number].size
        file.seek(self._at - start)
        count = file.readinto(buffer) or 0
        self._at += count
        return count

    def close(self) -> None:
        """Close the file that is open."""
        if self._file is not None:
            self._file.close()
        super().close()

    def _use(self, number: int) -> io.FileIO:
        if self._file is None or number != self._number:
            if self._file is not None:
                self._file.close()
            self._file = self._pieces[number].path.open("rb", buffering=0)
            self._number = number
        assert self._file is not None
        return self._file
