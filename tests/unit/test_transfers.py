"""What is remembered of staged transfers beyond the process."""

from __future__ import annotations

from pathlib import Path

from firecrestfs.cache.database import Database
from firecrestfs.cache.transfers import Transfers, UploadRecord

RECORD = UploadRecord("id", "cluster", "/a b\udcff", "/.fcfs-1", 10, 2**70, {"urls": ["u"]}, {})


def test_an_upload_is_taken_up_by_another_process(tmp_path: Path) -> None:
    transfers = Transfers(Database(tmp_path / "db"))
    assert transfers.upload("id") is None
    transfers.begin(RECORD)
    transfers.sent("id", 3, '"etag"')
    transfers.sent("id", 12, "other")
    transfers.completed("id")
    transfers.landed("id", 99, 1_700_000_000)
    found = Transfers(Database(tmp_path / "db")).upload("id")
    assert found is not None
    assert found.parts == {3: '"etag"', 12: "other"}
    assert (found.complete, found.landed, found.landed_mtime) == (True, 99, 1_700_000_000)
    assert (found.path, found.mtime_ns, found.ticket) == (RECORD.path, 2**70, RECORD.ticket)
    assert transfers.uploads("cluster") == [found]
    assert transfers.uploads("other") == []
    transfers.end("id")
    assert transfers.upload("id") is None


def test_leftovers(tmp_path: Path) -> None:
    transfers = Transfers(Database(tmp_path / "db"))
    transfers.may_leave("cluster", "/a", "/b\udcff", "/a")
    transfers.may_leave("other", "/c")
    assert sorted(transfers.leftovers("cluster")) == ["/a", "/b\udcff"]
    assert transfers.systems() == {"cluster", "other"}
    transfers.removed("cluster", "/a", "/b\udcff")
    assert transfers.leftovers("cluster") == []
    assert transfers.systems() == {"other"}
