"""What others do while an archive is on its way, or a rename by links."""

from __future__ import annotations

import pytest

from firecrestfs.api.typed import TypedClient
from firecrestfs.transfer.bundle import Bundler, Member, make_archive

from .tools import Remote


def test_an_archive_in_use_is_not_swept(client: TypedClient, there: Remote) -> None:
    """A sweep for one who waits must not take from others what they are about to unpack."""
    bundler = Bundler(client, "cluster")
    with bundler.uploaded(make_archive([Member("f")]), there.path):
        names = there.names()
        bundler.sweep()
        assert there.names() == names != []
    assert there.names() == []


@pytest.mark.parametrize("linked", [False, True])
def test_a_source_that_goes_while_it_is_renamed_over_a_target(
    bundler: Bundler,
    there: Remote,
    client: TypedClient,
    monkeypatch: pytest.MonkeyPatch,
    linked: bool,
) -> None:
    """Another client removes it, before its link is made, which must cost nothing, or after."""
    (there.local / "old").write_text("source")
    (there.local / "new").write_text("target")
    real, calls = client.extract, []

    def extract(system: str, archive: str, directory: str, *, compression: str = "gzip") -> None:
        calls.append(archive)
        if len(calls) == 2 and not linked:
            (there.local / "old").unlink()
        real(system, archive, directory, compression=compression)
        if len(calls) == 2 and linked:
            (there.local / "old").unlink()

    monkeypatch.setattr(client, "extract", extract)
    source, target = (client.stat("cluster", there / name) for name in ("old", "new"))
    if linked:
        bundler.rename(there / "old", there / "new", source, target)
    else:
        with pytest.raises(OSError):
            bundler.rename(there / "old", there / "new", source, target)
    assert (there.local / "new").read_text() == ("source" if linked else "target")
    bundler.sweep()
    assert there.names() == ["new"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_target_that_changes_while_it_is_renamed_over(
    bundler: Bundler,
    there: Remote,
    client: TypedClient,
    monkeypatch: pytest.MonkeyPatch,
    replaced: bool,
) -> None:
    """Another client writes it after the last look at it: what it wrote stays."""
    (there.local / "old").write_text("source")
    (there.local / "new").write_text("target")
    real, calls = client.extract, []

    def extract(system: str, archive: str, directory: str, *, compression: str = "gzip") -> None:
        calls.append(archive)
        if len(calls) == 1:
            if replaced:
                (there.local / "new").unlink()
            (there.local / "new").write_text("theirs, written meanwhile")
        real(system, archive, directory, compression=compression)

    monkeypatch.setattr(client, "extract", extract)
    source, target = (client.stat("cluster", there / name) for name in ("old", "new"))
    with pytest.raises(FileExistsError):
        bundler.rename(there / "old", there / "new", source, target)
    assert (there.local / "new").read_text() == "theirs, written meanwhile"
    assert (there.local / "old").read_text() == "source"
    bundler.sweep()
    assert there.names() == ["new", "old"]
