"""Notes: what the parts that carry out changes note, tell and forget."""

from __future__ import annotations

from collections.abc import Callable

from firecrestfs.cache.content import ContentCache
from firecrestfs.model import Kind

from .entry import Entry
from .overlay import Overlay


class Notes:
    """Keeps overlay, journal and local copies in step. Thread-safe."""

    def __init__(
        self, overlay: Overlay, content: ContentCache, report: Callable[[str, str], None]
    ) -> None:
        self._overlay = overlay
        self._content = content
        self.report = report  # tells the user of a path and what is wrong with it
        self.write_down: Callable[..., None] = lambda *entries: None  # into the journal
        self._refusals: list[tuple[str, str]] = []  # only ever added to

    def refused(self, path: str, text: str) -> None:
        """Tell that a change of *path* was taken back, and what the cluster said."""
        self.report(path, text)
        self._refusals.append((path, text))

    def refusals(self, since: int = 0) -> list[tuple[str, str]]:
        """Return what was taken back, paths and reasons, after so many were."""
        return self._refusals[since:]

    def drop(self, entry: Entry) -> None:
        """Forget *entry*, and names that it was to get: nothing of it is left to be told."""
        for each in list(entry.links):
            self.report(each.where, f"not linked: {entry.where} is no more")
            self.drop(each)
        self._overlay.forget(entry)
        # A file may have waited for nothing but this name.
        self.write_down(entry, *([] if entry.link_of is None else [entry.link_of]))
        # Of what was unlinked here whoever has it open goes on with it; of anything else they shall
        # find out that nothing that they write would be stored.
        if entry.file is not None and (entry.path or not entry.file.opens):
            self._content.drop(entry.file)

    def tidy(self, entry: Entry) -> None:
        """Forget what needs no remembering: a directory that is as the cluster has it."""
        if entry.kind is not Kind.DIRECTORY:
            return
        with self._overlay.lock:
            # In one step: it may just be given a mode, a time or a name.
            if not (entry.times_given or self._overlay.differs(entry)):
                self._overlay.forget(entry)
