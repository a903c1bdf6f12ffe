"""The commands that change the tree: redirections, mkdir, rm, ln, chmod, chown."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import BinaryIO

from .login import Login, fail
from .modes import BadMode, apply_mode
from .shell import CommandFailed, CommandTimeout
from .storage import allowance
from .tree import Place, error

_BLOCK = 1 << 18


def redirect(login: Login, path: str, data: bytes) -> None:
    """`base64 -d > 'PATH'`: truncate or create, then write in place.

    Nothing to write: the decoder waits for input that never comes, the file stays empty. Raises
    CommandFailed, CommandTimeout.
    """
    fd = _truncated(login, path, "bash: line 1")
    try:
        if not data:
            time.sleep(login.knobs.command_seconds)
            raise CommandTimeout
        allowed, code = allowance(login, len(data))
        _write_all(fd, data[:allowed])
    finally:
        os.close(fd)
    if allowed < len(data):
        fail("base64: write error", error(code))


def cat(login: Login, path: str, data: BinaryIO, size: int, shell: str = "bash: line 1") -> None:
    """`cat > 'PATH'`: the same with plain data. *shell* complains if it can't open the file."""
    fd = _truncated(login, path, shell)
    try:
        allowed, code = allowance(login, size)
        left = allowed
        while chunk := data.read(min(_BLOCK, left)):
            _write_all(fd, chunk)
            left -= len(chunk)
    finally:
        os.close(fd)
    if allowed < size:
        fail("cat: write error", error(code))


def _truncated(login: Login, path: str, shell: str) -> int:
    try:
        place = login.place(path)
        if not os.path.lexists(place.local.rstrip("/")):
            login.tree.check_parent_writable(place)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return os.open(place.local, flags, _new_mode(login, place.local, 0o666))
    except OSError as exc:
        fail(f"{shell}: {path}", exc)


def _new_mode(login: Login, local: str, mode: int) -> int:
    """Return *mode* less what the umask takes: nothing where the parent passes on an ACL."""
    try:
        os.getxattr(os.path.dirname(local.rstrip("/")), "system.posix_acl_default")
    except OSError:
        return mode & ~login.knobs.umask_bits
    return mode


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def touch(login: Login, path: str) -> None:
    """`touch`: make an empty file, or only set its times."""
    try:
        place = login.place(path)
        if not os.path.lexists(place.local.rstrip("/")):
            login.tree.check_parent_writable(place)
            _check_room(login)
        mode = _new_mode(login, place.local, 0o666)
        os.close(os.open(place.local, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode))
        os.utime(place.local)
    except OSError as exc:
        fail(f"touch: cannot touch {login.quoted(path)}", exc)


def mkdir(login: Login, path: str, *, parents: bool = False) -> None:
    """Make a directory; with *parents* also those above, and an existing one is fine."""
    if not parents:
        return _mkdir_one(login, path)
    parts = [at for at, char in enumerate(path) if char == "/" and path[:at].strip("/")]
    for prefix in [path[:at] for at in parts if path[at:].strip("/")]:
        if not _is_directory(login, prefix):
            _mkdir_one(login, prefix, intermediate=True)
    if not _is_directory(login, path):
        _mkdir_one(login, path)


def _mkdir_one(login: Login, path: str, *, intermediate: bool = False) -> None:
    try:
        place = login.place(path.rstrip("/") or "/", follow=False)
        if not os.path.lexists(place.local):
            login.tree.check_parent_writable(place)
            _check_room(login)
        os.mkdir(place.local, _new_mode(login, place.local, 0o777))
    except OSError as exc:
        if intermediate and exc.errno == errno.EEXIST:
            exc = error(errno.ENOTDIR)
        fail(f"mkdir: cannot create directory {login.typographic(path)}", exc)


def _is_directory(login: Login, path: str) -> bool:
    try:
        return os.path.isdir(login.place(path).local)
    except OSError:
        return False


def _check_room(login: Login) -> None:
    allowed, code = allowance(login, 1)
    if not allowed:
        raise error(code)


def rm(login: Login, path: str) -> None:
    """`rm -r --interactive=never`: remove whatever it is, with everything below.

    With a trailing slash on a link to a directory it empties that directory, then fails.
    """
    if path.rstrip("/").rsplit("/", 1)[-1] in (".", ".."):
        skipped = login.quoted(path)
        fail(f"rm: refusing to remove '.' or '..' directory: skipping {skipped}")
    complaints: list[str] = []
    try:
        place = login.place(path, follow=False)
        info = os.lstat(place.local)
    except OSError as exc:
        fail(f"rm: cannot remove {login.quoted(path)}", exc)
    if not place.remote:
        hint = "rm: use --no-preserve-root to override this failsafe"
        fail(f"rm: it is dangerous to operate recursively on '/'\n{hint}")
    _Remover(login, complaints).remove(path, place, info)
    if complaints:
        raise CommandFailed(1, "".join(complaints))


class _Remover:
    """One run of rm: goes on after an error, and leaves the parents of what it could not remove."""

    def __init__(self, login: Login, complaints: list[str]) -> None:
        self._login = login
        self._complaints = complaints

    def remove(self, path: str, place: Place, info: os.stat_result) -> bool:
        """Remove one name and what lies below. Returns whether it is gone."""
        try:
            self._login.tree.check_parent_writable(place)
            if not stat.S_ISDIR(info.st_mode):
                os.unlink(place.local)
                return True
            unreadable = self._empty(path, place)
            if unreadable is None:
                return False
            self._rmdir(path, place, unreadable)
        except OSError as exc:
            words = f"rm: cannot remove {self._login.quoted(path)}"
            self._complaints.append(f"{words}: {os.strerror(exc.errno or 0)}\n")
            return False
        return True

    def _empty(self, path: str, place: Place) -> int | None:
        """Remove what a directory holds. Returns None if something stays, else an errno or 0."""
        try:
            with os.scandir(place.local) as entries:
                items = list(entries)
        except OSError as exc:
            return exc.errno or 0
        gone = True
        for item in items:
            below = Place(f"{place.local.rstrip('/')}/{item.name}", (*place.remote, item.name))
            info = os.lstat(below.local)
            gone = self.remove(f"{path.rstrip('/')}/{item.name}", below, info) and gone
        return 0 if gone else None

    def _rmdir(self, path: str, place: Place, unreadable: int) -> None:
        if path.endswith("/"):
            bare = self._login.place(path.rstrip("/"), follow=False)
            if os.path.islink(bare.local):
                raise error(errno.ENOTDIR)
        try:
            os.rmdir(place.local)
        except OSError:
            if unreadable:
                raise error(unreadable) from None
            raise


def symlink(login: Login, target: str, path: str) -> None:
    """`ln -s`: make a link with the text *target*; inside *path* if that is a directory."""
    if _is_directory(login, path):
        path = f"{path.rstrip('/')}/{target.rstrip('/').rsplit('/', 1)[-1]}"
    try:
        place = login.place(path, follow=False)
        if not os.path.lexists(place.local):
            login.tree.check_parent_writable(place)
            _check_room(login)
        os.symlink(target, place.local)
    except OSError as exc:
        fail(f"ln: failed to create symbolic link {login.quoted(path)}", exc)


def chmod(login: Login, path: str, mode: str) -> tuple[int, int]:
    """Change the mode of *path*, following links. *mode* is octal or symbolic.

    Returns the permission bits before and after.
    """
    hint = "\nTry 'chmod --help' for more information."
    if mode.startswith("-") and set(mode[1:]) <= set("Rcfv") and len(mode) > 1:
        fail(f"chmod: missing operand after {login.typographic(path)}{hint}")
    try:
        apply_mode(mode, 0, is_dir=False, umask=0)
    except BadMode:
        fail(f"chmod: invalid mode: {login.typographic(mode)}{hint}")
    place, info = _target(login, "chmod", path)
    wanted = apply_mode(
        mode,
        stat.S_IMODE(info.st_mode),
        is_dir=stat.S_ISDIR(info.st_mode),
        umask=login.knobs.umask_bits,
    )
    try:
        login.tree.check_owned(place, login.account)
        os.chmod(place.local, wanted)
    except OSError as exc:
        fail(f"chmod: changing permissions of {login.quoted(path)}", exc)
    return stat.S_IMODE(info.st_mode), wanted


def _target(login: Login, tool: str, path: str) -> tuple[Place, os.stat_result]:
    """Find what a path leads to, with the complaints of chmod and chown."""
    try:
        place = login.place(path)
        return place, os.stat(place.local)
    except OSError as exc:
        if exc.errno == errno.ENOENT and _is_link(login, path):
            if tool == "chmod":
                fail(f"chmod: cannot operate on dangling symlink {login.quoted(path)}")
            fail(f"{tool}: cannot dereference {login.quoted(path)}", exc)
        fail(f"{tool}: cannot access {login.quoted(path)}", exc)


def _is_link(login: Login, path: str) -> bool:
    try:
        return os.path.islink(login.place(path, follow=False).local)
    except OSError:
        return False


def chown(login: Login, path: str, owner: str, group: str) -> tuple[int, int]:
    """`chown OWNER:GROUP`, following links. `OWNER:` alone also gives the owner's primary group.

    Returns the ids of owner and group before.
    """
    uid, gid = _ids(login, owner, group)
    place, info = _target(login, "chown", path)
    now_uid, now_gid = login.directory.owner(info, place.remote)
    try:
        if uid not in (None, now_uid):
            raise error(errno.EPERM)
        if gid not in (None, now_gid):
            login.tree.check_owned(place, login.account)
            if gid not in login.user_gids():
                raise error(errno.EPERM)
            os.chown(place.local, -1, login.directory.local_gid(gid, login.account))
    except OSError as exc:
        what = "ownership" if owner else "group"
        fail(f"chown: changing {what} of {login.quoted(path)}", exc)
    return now_uid, now_gid


def _ids(login: Login, owner: str, group: str) -> tuple[int | None, int | None]:
    directory = login.directory
    uid = directory.find_user(owner) if owner else None
    gid = directory.find_group(group) if group else None
    spec = login.typographic(f"{owner}:{group}")
    if owner and not group:
        account = directory.accounts.get(owner)
        if uid is None or owner.isdigit():
            fail(f"chown: invalid spec: {spec}")
        return uid, account.group.gid if account else 0
    if owner and uid is None:
        fail(f"chown: invalid user: {spec}")
    if group and gid is None:
        fail(f"chown: invalid group: {spec}")
    return uid, gid
