"""What the mount sees of FirecREST: model values, exact bytes, operations that prove what they do.

`TypedClient` works on whatever `Firecrest.server()` returns, so one class serves all versions.
"""

from __future__ import annotations

import errno

from ..errors import FirecrestException
from ..model import Attr, Kind
from ..paths import name_of
from .auth import TokenSource
from .circuit import Circuit
from .faults import Exists, IsADirectory, NotADirectory, NotFound, refusal
from .names import candidates, checked_path, checked_text
from .renaming import Rename
from .staging import StagingCalls
from .typed_jobs import TypedJobs


class TypedClient(StagingCalls, TypedJobs):
    """FirecREST as model values. Thread-safe; raises `OSError` (`FirecrestException`) only.

    An exception that is `ambiguous` came after the request was on its way: what it asked for may
    have happened. Methods say where they settle that themselves.
    """

    # -- files --------------------------------------------------------------------------------

    def upload(
        self, system: str, directory: str, name: str, data: bytes, *, new: bool = False
    ) -> None:
        """Write *data* as *name* in *directory*: in place, through links, not atomically.

        *new*: the caller knows that nothing of that name is there, which saves v1 a look. EINVAL
        for names that can't travel and for empty data where `features` say so (take the tar
        route), EFBIG above the limit. After an ambiguous failure the file may be old, new, or cut.
        """
        limit = self.limits(system).upload
        self._client.server().upload(system, directory, name, data, limit=limit, new=new)

    def empty(self, system: str, path: str) -> None:
        """Cut the file *path* to no bytes, in place: inode, mode, owner and links stay.

        Takes the server's time limit for commands (5 s) where `features` has no `empty_upload`.
        """
        try:
            self._client.server().empty(system, path)
        except FirecrestException as exc:
            if not exc.ambiguous or not self._is_empty(system, path):
                raise

    def _is_empty(self, system: str, path: str) -> bool:
        try:
            return self.stat(system, path).size == 0
        except FileNotFoundError:
            # A new one, which nobody has made.
            return False

    def mkdir(self, system: str, path: str, *, parents: bool = False) -> None:
        """Create a directory. EEXIST where something is there (a directory is fine with *parents*).

        A lost answer is settled here.
        """
        server = self._client.server()
        try:
            server.mkdir(system, path, parents=parents)
        except FirecrestException as exc:
            if not exc.ambiguous:
                raise
            self._mkdir_again(system, path, parents)

    def _mkdir_again(self, system: str, path: str, parents: bool) -> None:
        try:
            self._client.server().mkdir(system, path, parents=parents)
        except Exists:
            # Most likely by the first attempt; if not, it is still what was asked for.
            if self.stat(system, path).kind is not Kind.DIRECTORY:
                raise

    def remove(self, system: str, path: str, kind: Kind) -> None:
        """Remove one entry that is what *kind* says: proven by a fresh look, since rm asks nothing.

        EISDIR for a directory where none was expected, ENOTDIR the other way round, ENOTEMPTY,
        EBUSY for the roots. A lost answer is settled here. What others create in a directory
        between the look and the removal is removed with it.
        """
        clean = self._removable(system, path)
        self._prove(system, clean, kind)
        try:
            self._client.server().rm(system, clean)
        except FirecrestException as exc:
            if not exc.ambiguous:
                raise
            try:
                self._prove(system, clean, kind)
                self._client.server().rm(system, clean)
            except NotFound:
                return

    def remove_proven(self, system: str, path: str) -> None:
        """Remove *path* with all that is in it; what it is must have been proven a moment ago.

        Nothing there is fine, nor is a directory on the way to it. A lost answer is settled here.
        """
        clean = self._removable(system, path)
        for last in (False, True):
            try:
                self._client.server().rm(system, clean)
                return
            except (NotFound, NotADirectory):
                return
            except FirecrestException as exc:
                if last or not exc.ambiguous:
                    raise

    def remove_tree(self, system: str, path: str) -> None:
        """Remove a directory with everything in it. ENOTDIR for anything else, links included.

        A tree too large for the time limit raises ETIMEDOUT half-way, at the second attempt: call
        again, or use a job. A lost answer is settled here.
        """
        clean = self._removable(system, path)
        if self.stat(system, clean).kind is not Kind.DIRECTORY:
            raise NotADirectory(errno.ENOTDIR, "not a directory on the cluster", path)
        try:
            self._client.server().rm(system, clean)
        except FirecrestException as exc:
            if not exc.ambiguous:
                raise
            try:
                self._client.server().rm(system, clean)
            except NotFound:
                return

    def _removable(self, system: str, path: str) -> str:
        clean = checked_path(path)
        roots = {root.path for root in self.system(system).roots}
        if clean == "/" or any(root == clean or root.startswith(clean + "/") for root in roots):
            raise refusal(errno.EBUSY, "a file system's root can't be removed", path)
        return clean

    def _prove(self, system: str, path: str, kind: Kind) -> None:
        found = self.stat(system, path).kind
        if kind is not Kind.DIRECTORY:
            if found is Kind.DIRECTORY:
                raise IsADirectory(errno.EISDIR, "a directory on the cluster", path)
            if found is not kind:
                text = f"changed on the cluster: now a {found.name.lower()}"
                raise refusal(errno.ESTALE, text, path)
        elif found is not Kind.DIRECTORY:
            raise NotADirectory(errno.ENOTDIR, "not a directory on the cluster", path)
        elif not self._client.server().is_empty(system, path):
            raise refusal(errno.ENOTEMPTY, "the directory is not empty", path)

    def rename(self, system: str, old: str, new: str, *, source: Attr | None = None) -> Attr | None:
        """Rename as rename(2) does and return the attributes of *new*, proven to be the same inode.

        None where both names are the same file already and nothing was done. *source* is a stat of
        *old* from a moment ago; it saves a request. EOPNOTSUPP where the server has no rename: see
        `features`. EXDEV between file systems, EISDIR, ENOTDIR, ENOTEMPTY, EBUSY for the roots. A
        file is replaced atomically; an empty directory, and a link to a directory, are removed
        first. A lost answer is settled here.
        """
        if not self.features(system).rename:
            text = "this version of FirecREST has no synchronous rename"
            raise refusal(errno.EOPNOTSUPP, text, old)
        self._removable(system, old)
        self._removable(system, new)
        return Rename(self, system, old, new).run(source)

    def move(self, system: str, old: str, new: str) -> None:
        """Run the server's `mv` as it is: into *new* where that is a directory. See `rename`."""
        self._client.server().rename(system, old, new)

    def move_by_job(self, system: str, old: str, new: str) -> None:
        """Run `mv` as a batch job where the server has no rename; waits until it has ended.

        EINVAL for names that a job script can't carry. See `Firecrest.mv`.
        """
        self._client.mv(system, old, new)

    def symlink(self, system: str, target: str, link: str, *, new: bool = False) -> None:
        """Create *link* with the text *target*. EEXIST where something is there.

        *new*: the caller knows that nothing is; else a look goes first, since the cluster's tool
        makes the link *inside* a directory of that name, and inside one that a link leads to.
        EINVAL for a target that isn't absolute and inside the system's roots, unless `features`
        tell of `any_link`: such links travel in archives. A lost answer is settled here.
        """
        clean = checked_path(link)
        self._check_target(system, target)
        if not new and self._is_there(system, clean):
            raise Exists(errno.EEXIST, "exists on the cluster", link)
        try:
            made = self._client.server().symlink(system, target, clean)
        except FirecrestException as exc:
            if exc.ambiguous and self._is_link(system, clean, target):
                return
            raise
        # Where a directory of that name is, ln makes the link inside it and calls it a success.
        if made.get("type") != "l" or clean not in candidates(str(made.get("name", ""))):
            self._undo_inner_link(system, clean, target)
            raise Exists(errno.EEXIST, "a directory of this name exists on the cluster", link)

    def _is_there(self, system: str, path: str) -> bool:
        try:
            self.stat(system, path)
        except NotFound:
            return False
        return True

    def _check_target(self, system: str, target: str) -> None:
        checked_text(target, "the link's target")
        if not target:
            raise refusal(errno.EINVAL, "a link must point somewhere", target)
        features = self.features(system)
        if features.any_link:
            if any(part in target for part in features.forbidden):
                text = "the link's target holds what this version of FirecREST can't pass on"
                raise refusal(errno.EINVAL, text, target)
            return
        roots = [root.path.rstrip("/") + "/" for root in self.system(system).roots]
        plain = target.startswith("/") and ".." not in target.split("/")
        if not plain or not any((checked_path(target) + "/").startswith(root) for root in roots):
            text = "FirecREST makes links to absolute paths inside its file systems only"
            raise refusal(errno.EINVAL, text, target)

    def _is_link(self, system: str, path: str, target: str) -> bool:
        try:
            return self.readlink(system, path) == target
        except FirecrestException:
            return False

    def _undo_inner_link(self, system: str, directory: str, target: str) -> None:
        inner = f"{directory}/{name_of(target.rstrip('/'))}"
        if self._is_link(system, inner, target):
            self.remove(system, inner, Kind.SYMLINK)

    def chmod(self, system: str, path: str, mode: int) -> None:
        """Set the twelve permission bits; follows links."""
        # Five digits: with fewer, chmod keeps a directory's set-id bits.
        self._client.server().chmod(system, path, f"{mode & 0o7777:05o}")

    def chown(self, system: str, path: str, uid: int | None, gid: int | None) -> None:
        """Set remote owner and group; None: unchanged. Follows links.

        With an owner alone the group is looked up first, which costs a request.
        """
        if uid is None and gid is None:
            return
        if gid is None:
            # The server runs `chown OWNER:`, which would set the owner's login group as well.
            gid = self.stat(system, path, follow=True).gid
        self._client.server().chown(system, path, "" if uid is None else str(uid), str(gid))

    def compress(
        self,
        system: str,
        source: str,
        target: str,
        *,
        compression: str = "gzip",
        dereference: bool = False,
        pattern: str | None = None,
    ) -> None:
        """Make the archive *target* of *source*, members named below the base name of *source*.

        After a failure an invalid archive may be left. *pattern* (find's -regex, members then start
        with `./`) takes plain characters only, else EINVAL.
        """
        self._client.server().compress(
            system,
            source,
            target,
            compression=compression,
            pattern=pattern,
            dereference=dereference,
        )

    def extract(
        self, system: str, archive: str, directory: str, *, compression: str = "gzip"
    ) -> None:
        """Unpack *archive* into the existing *directory*; existing files are replaced (new inodes).

        After any failure some members may be there: prove each.
        """
        self._client.server().extract(system, archive, directory, compression=compression)

    # -- the connection -----------------------------------------------------------------------

    def server_date(self) -> str:
        """Return the `Date` header of the latest answer; one request where none came yet."""
        if not self._client.session.server_date():
            self.systems()
        return self._client.session.server_date()

    def renew_credentials(self) -> None:
        """Try credentials again that were refused: the user says that something has changed."""
        renew = getattr(self._client.session.tokens, "renew", None)
        if renew is not None:
            renew()

    def use_credentials(self, tokens: TokenSource) -> None:
        """Take tokens from *tokens* from now on."""
        self._client.session.tokens = tokens

    def drop_connections(self) -> None:
        """Close all connections: after a suspend they are dead."""
        self._client.session.drop_connections()

    @property
    def circuit(self) -> Circuit:
        """What is known of the way to the server."""
        return self._client.session.circuit

    def stats(self) -> dict[str, int]:
        """Return the number of requests so far by endpoint."""
        return self._client.session.stats()
