"""Local copies of files as tests make them."""

from __future__ import annotations

from pathlib import Path

from firecrestfs.cache.cached_file import CachedFile

from .tools import make_attr


def remote_file(places: tuple[Path, Path], data: bytes) -> CachedFile:
    """Return a complete copy of a remote file."""
    file = CachedFile(*places, "f", make_attr(len(data)))
    file.fill(data, make_attr(len(data)))
    return file


def new_file(places: tuple[Path, Path], data: bytes = b"", mode: int = 0o644) -> CachedFile:
    """Return a copy that only exists here, opened for writing."""
    file = CachedFile(*places, "f", make_attr(mode=mode))
    file.opened(True)
    file.create(mode)
    if data:
        file.write(data, 0)
    return file


def where(places: tuple[Path, Path]) -> str:
    """Tell in which of the places bytes lie."""
    kept = zip(("clean", "dirty"), places, strict=True)
    return "+".join(name for name, place in kept if list(place.iterdir()))
