"""Who may do what: remote owners as local ones, modes, stickiness, inode numbers."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from firecrestfs.cache.database import Database
from firecrestfs.cache.inodes import Inodes
from firecrestfs.model import Attr, Kind, UserInfo
from firecrestfs.vfs.identity import NOBODY, Identity

from .tools import make_attr

LOCAL_UID, LOCAL_GID = 501, 20
ME = UserInfo("me", 1000, 100, {100: "staff", 2044: "proj"})


@pytest.fixture
def identity() -> Identity:
    return Identity("daint", ME, LOCAL_UID, LOCAL_GID)


def shown(identity: Identity, **attributes: object) -> Attr:
    return identity.localise("/x", make_attr(**attributes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uid", "gid", "local"),
    [
        (1000, 100, (LOCAL_UID, LOCAL_GID)),
        (1000, 2044, (LOCAL_UID, LOCAL_GID)),
        (0, 0, (NOBODY, NOBODY)),
        (LOCAL_UID, LOCAL_GID, (NOBODY, NOBODY)),
        (-1, -1, (NOBODY, NOBODY)),
        (NOBODY, 2044, (NOBODY, LOCAL_GID)),
    ],
)
def test_owners(identity: Identity, uid: int, gid: int, local: tuple[int, int]) -> None:
    attr = shown(identity, uid=uid, gid=gid)
    assert (attr.uid, attr.gid) == local


def test_names_of_owners_are_kept_numbers_stand_in(identity: Identity) -> None:
    assert shown(identity, owner="jdoe", group="g").owner == "jdoe"
    assert (shown(identity, uid=7, gid=8).owner, shown(identity, uid=7, gid=8).group) == ("7", "8")


@pytest.mark.parametrize("who", ["owner", "group", "other"])
@pytest.mark.parametrize("mask", range(8))
def test_every_mode_grants_what_it_says(identity: Identity, who: str, mask: int) -> None:
    """All 512 modes: only the class that we belong to counts, even where others may more."""
    uid = {"owner": 1000}.get(who, 7)
    gid = {"other": 7}.get(who, 2044)
    shift = {"owner": 6, "group": 3, "other": 0}[who]
    for mode in range(0o1000):
        granted = mode >> shift & 7
        attr = shown(identity, uid=uid, gid=gid, mode=mode)
        assert identity.may(attr, mask) is (granted & mask == mask), oct(mode)


def test_an_acl_mark_lets_through(identity: Identity) -> None:
    attr = shown(identity, uid=7, gid=7, mode=0, acl=True)
    assert all(identity.may(attr, mask) for mask in range(8))


def test_remote_root_may_everything() -> None:
    root = Identity("daint", UserInfo("root", 0, 0, {0: "root"}), LOCAL_UID, LOCAL_GID)
    attr = root.localise("/x", make_attr(uid=7, gid=7, mode=0))
    assert root.may(attr, 7)
    root.require_owner("/x", attr)


def test_a_refusal_shows_mode_and_owner(identity: Identity) -> None:
    attr = shown(identity, uid=7, gid=7, mode=0o640, owner="jdoe", group="users")
    with pytest.raises(PermissionError, match=r"-rw-r----- jdoe:users") as info:
        identity.require("/x", attr, os.R_OK)
    assert (info.value.errno, info.value.filename) == (errno.EACCES, "/x")


def test_only_owners_set_attributes(identity: Identity) -> None:
    identity.require_owner("/x", shown(identity, uid=1000))
    with pytest.raises(PermissionError) as info:
        identity.require_owner("/x", shown(identity, uid=7))
    assert info.value.errno == errno.EPERM


@pytest.mark.parametrize(
    ("file_uid", "dir_uid", "dir_mode"),
    list(itertools.product([1000, 7], [1000, 7], [0o777, 0o1777, 0o555, 0o1755])),
)
def test_taking_an_entry_out_of_a_directory(
    identity: Identity, file_uid: int, dir_uid: int, dir_mode: int
) -> None:
    """As the kernel decides: write and search on the directory, and one's own if it is sticky."""
    directory = shown(identity, kind=Kind.DIRECTORY, uid=dir_uid, gid=7, mode=dir_mode)
    file = shown(identity, uid=file_uid, gid=7)
    bits = dir_mode >> (6 if dir_uid == 1000 else 0) & 7
    sticky = dir_mode & 0o1000 and 1000 not in (file_uid, dir_uid)
    if bits & 3 == 3 and not sticky:
        identity.require_removable("/d/x", directory, file)
        return
    with pytest.raises(PermissionError) as info:
        identity.require_removable("/d/x", directory, file)
    assert info.value.errno == (errno.EPERM if bits & 3 == 3 else errno.EACCES)


# -- inode numbers -------------------------------------------------------------------------------


def test_inodes_are_the_same_in_every_mount(identity: Identity) -> None:
    again = Identity("daint", ME, LOCAL_UID, LOCAL_GID)
    other = Identity("eiger", ME, LOCAL_UID, LOCAL_GID)
    for path in ("/", "/a", "/ü", "/\udcff"):
        assert identity.inode(path) == again.inode(path)
        assert identity.inode(path) != other.inode(path)
        assert 0 < identity.inode(path) < 1 << 64


def test_inodes_of_many_paths_differ(identity: Identity) -> None:
    assert len({identity.inode(f"/{number}") for number in range(20_000)}) == 20_000


def test_a_rename_keeps_the_number_and_frees_the_name(identity: Identity) -> None:
    number = identity.inode("/old")
    identity.move_inode("/old", "/new")
    assert identity.inode("/new") == number
    assert identity.inode("/old") != number


def test_saves_by_rename_give_new_numbers_each_time(identity: Identity) -> None:
    """An editor: `f` → `f~`, `tmp` → `f`, again and again; two names never share a number."""
    seen = set()
    for _ in range(5):
        identity.move_inode("/f", "/f~")
        identity.move_inode("/tmp", "/f")
        numbers = [identity.inode(path) for path in ("/f", "/f~", "/tmp")]
        assert len(set(numbers)) == 3
        seen.add(numbers[0])
    assert len(seen) == 5


def test_a_name_moved_there_and_back(identity: Identity) -> None:
    number = identity.inode("/a")
    identity.move_inode("/a", "/b")
    identity.move_inode("/b", "/a")
    assert identity.inode("/a") == number
    assert identity.inode("/b") != number


@pytest.mark.parametrize("kept", [False, True], ids=["one mount", "two"])
def test_a_renamed_tree_shares_no_number_with_what_takes_its_name(
    tmp_path: Path, kept: bool
) -> None:
    """`mv d e; mkdir d`: diff and cp take two files of one number for the same file."""
    inodes = Inodes(Database(tmp_path / "state.sqlite"), "daint")
    identity = Identity("daint", ME, LOCAL_UID, LOCAL_GID, inodes)
    identity.move_inode("/d/y", "/d/z")
    before = {name: identity.inode(f"/d/{name}") for name in ("", "x", "z", "s/x")}
    identity.move_inode("/d", "/e", tree=True)
    identity.move_inode("/e", "/f", tree=True)
    if kept:
        identity = Identity("daint", ME, LOCAL_UID, LOCAL_GID, inodes)
    assert {name: identity.inode(f"/f/{name}") for name in before if name} == {
        name: number for name, number in before.items() if name
    }
    all_numbers = [identity.inode(f"/{top}/{name}") for top in "def" for name in ("x", "z", "s/x")]
    all_numbers += [identity.inode(f"/{top}") for top in "def"]
    assert len(set(all_numbers)) == len(all_numbers)


def test_numbers_of_what_was_renamed_outlive_the_mount(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.sqlite")
    identity = Identity("daint", ME, LOCAL_UID, LOCAL_GID, Inodes(database, "daint"))
    identity.move_inode("/a/\udcff", "/b")
    identity.share_inode("/b", "/c")
    again = Identity("daint", ME, LOCAL_UID, LOCAL_GID, Inodes(database, "daint"))
    for path in ("/a/\udcff", "/b", "/c"):
        assert again.inode(path) == identity.inode(path)
    other = Identity("eiger", ME, LOCAL_UID, LOCAL_GID, Inodes(database, "eiger"))
    assert other.inode("/b") != other.inode("/c")
