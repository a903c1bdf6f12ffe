"""The tutorial's calls that move, copy and transfer: at once on v1, by batch jobs on v2."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from . import shapes
from .external import ExternalDownload, ExternalUpload, Landing, Local, size_and_name
from .faults import NotFound, TimedOut, refusal
from .names import checked_path
from .objects import ObjectStore
from .session import ApiSession
from .stages import DownloadV2, EmptyUpload, NothingV2, Stage, TaskV1, UploadStage, UploadV2
from .transferjobs import TransferJob, await_end, checked_for_job, fault_of, read_log, run
from .v1 import ServerV1
from .v1_http import FORBIDDEN
from .v2 import ServerV2

#: How long the blocking ones wait for a job, in seconds.
_HOUR = 3600.0
_DIRECTORY = 0o040000


class StorageCalls(ABC):
    """The part of `Firecrest` that deals with whole files, of any size."""

    session: ApiSession
    objects: ObjectStore

    @abstractmethod
    def server(self) -> ServerV1 | ServerV2:
        """Return the server's endpoints."""

    # -- moving and copying -------------------------------------------------------------------

    def mv(
        self,
        system_name: str,
        source_path: str,
        target_path: str,
        *,
        account: str | None = None,
        timeout: float = _HOUR,
    ) -> str:
        """Rename or move, *into* the target where that is a directory; return *target_path*.

        On v2 a batch job does it, paid by *account* where the site wants one: that takes as long
        as the queue does, at most *timeout* seconds (then ETIMEDOUT, and the job goes on).
        """
        server = self.server()
        if isinstance(server, ServerV1):
            server.rename(system_name, source_path, target_path)
            return target_path
        source, target = checked_for_job(source_path), checked_for_job(target_path)
        before = server.stat(system_name, source)
        landing = _landing(server, system_name, source, target)

        def moved() -> bool:
            there = _there(server, system_name, landing)
            gone = _there(server, system_name, source) is None
            return there is not None and gone and _same(there, before)

        self._run(server, system_name, "mv", source, target, account, timeout, moved)
        return target_path

    def copy(
        self,
        system_name: str,
        source_path: str,
        target_path: str,
        *,
        account: str | None = None,
        timeout: float = _HOUR,
    ) -> str:
        """Copy a file or a tree, *into* the target where that is a directory; as `mv`."""
        server = self.server()
        if isinstance(server, ServerV1):
            server.copy(system_name, source_path, target_path)
            return target_path
        source, target = checked_for_job(source_path), checked_for_job(target_path)
        before = server.stat(system_name, source)
        landing = _landing(server, system_name, source, target)

        def copied() -> bool:
            there = _there(server, system_name, landing)
            return there is not None and _same(there, before)

        self._run(server, system_name, "cp", source, target, account, timeout, copied)
        return target_path

    def _run(
        self,
        server: ServerV2,
        system: str,
        operation: str,
        source: str,
        target: str,
        account: str | None,
        timeout: float,
        proven: Callable[[], bool],
    ) -> None:
        body = {"sourcePath": source, "targetPath": target}
        body |= {"account": account} if account else {}
        job = TransferJob.of(system, server.transfer(system, operation, body))
        run(server, job, self.session.patience(timeout), source, proven)

    # -- archives -----------------------------------------------------------------------------

    def compress(
        self,
        system_name: str,
        source_path: str,
        target_path: str,
        dereference: bool = False,
        fail_on_timeout: bool = True,
    ) -> str:
        """Make the gzip archive *target_path* of *source_path*; return its path.

        What takes longer than the server's time limit for commands fails with ETIMEDOUT, or, if
        not *fail_on_timeout*, is done by a batch job, which is waited for.
        """
        server = self.server()
        try:
            server.compress(system_name, source_path, target_path, dereference=dereference)
        except TimedOut:
            if fail_on_timeout:
                raise
            options = {"dereference": dereference}
            self._by_job(system_name, "compress", source_path, target_path, options)
        return target_path

    def extract(
        self,
        system_name: str,
        source_path: str,
        target_path: str,
        extension: str = "auto",
        fail_on_timeout: bool = True,
    ) -> str:
        """Unpack the archive *source_path* into a directory; return its path. See `compress`."""
        compression = shapes.compression_of(source_path if extension == "auto" else extension)
        try:
            self.server().extract(system_name, source_path, target_path, compression=compression)
        except TimedOut:
            if fail_on_timeout:
                raise
            options = {"extension": extension}
            self._by_job(system_name, "extract", source_path, target_path, options)
        return target_path

    def _by_job(
        self, system: str, operation: str, source: str, target: str, options: dict[str, Any]
    ) -> None:
        """Do it by a job. Raises what its log of errors tells, ETIMEDOUT after an hour."""
        server, call = self.server(), self.session.patience(_HOUR)

        def proven() -> bool:
            return bool(server.stat(system, target))

        told = self._submit_job(system, operation, source, target, options)
        logs = str(told.get("job_file_out", "")), str(told.get("job_file_err", ""))
        job = TransferJob(str(told.get("system", system)), str(told["jobid"]), *logs)
        if isinstance(server, ServerV2):
            run(server, job, call, source, proven)
            return
        await_end(server, job, call)
        words = read_log(server, job, job.error_log)
        if words.strip() or not proven():
            raise fault_of(words, job, source)

    # -- jobs that nobody waits for -----------------------------------------------------------

    def submit_move_job(
        self, system_name: str, source_path: str, target_path: str, **options: Any
    ) -> dict[str, Any]:
        """Submit a job that moves; return it as `submit` does. It ends well even if it failed.

        *options*: `account`; on v1 also `job_name`, `time` (`HH:MM:SS`) and `stage_out_job_id`,
        which v2 refuses with EOPNOTSUPP.
        """
        return self._submit_job(system_name, "mv", source_path, target_path, options)

    def submit_copy_job(
        self, system_name: str, source_path: str, target_path: str, **options: Any
    ) -> dict[str, Any]:
        """Submit a job that copies. See `submit_move_job`."""
        return self._submit_job(system_name, "cp", source_path, target_path, options)

    def submit_rsync_job(
        self, system_name: str, source_path: str, target_path: str, **options: Any
    ) -> dict[str, Any]:
        """Submit a job that runs rsync: v1 only. See `submit_move_job`."""
        return self._submit_job(system_name, "rsync", source_path, target_path, options)

    def submit_delete_job(
        self, system_name: str, target_path: str, **options: Any
    ) -> dict[str, Any]:
        """Submit a job that removes a file or a tree. See `submit_move_job`."""
        return self._submit_job(system_name, "rm", None, target_path, options)

    def submit_compress_job(
        self, system_name: str, source_path: str, target_path: str, **options: Any
    ) -> dict[str, Any]:
        """Submit a job that makes an archive; *options* has `dereference`, too."""
        return self._submit_job(system_name, "compress", source_path, target_path, options)

    def submit_extract_job(
        self, system_name: str, source_path: str, target_path: str, **options: Any
    ) -> dict[str, Any]:
        """Submit a job that unpacks an archive; *options* has `extension` (`auto`), too."""
        return self._submit_job(system_name, "extract", source_path, target_path, options)

    def _submit_job(
        self,
        system: str,
        operation: str,
        source: str | None,
        target: str,
        options: dict[str, Any],
    ) -> dict[str, Any]:
        server = self.server()
        known = {"account", "job_name", "time", "stage_out_job_id", "dereference", "extension"}
        if set(options) - known:
            raise TypeError(f"unexpected keywords: {', '.join(sorted(set(options) - known))}")
        if isinstance(server, ServerV1):
            return _submit_v1(server, system, operation, source, target, options)
        return _submit_v2(server, system, operation, source, target, options)

    # -- the staging area ---------------------------------------------------------------------

    def external_download(
        self,
        system_name: str,
        source_path: str,
        *,
        account: str | None = None,
        eager: bool = False,
    ) -> ExternalDownload:
        """Have a file of any size staged; return what fetches it. ENOENT, EACCES, EISDIR at once.

        On v2 a batch job stages it, paid by *account* where the site wants one. With *eager* the
        file counts as staged before that has ended: call `tidy` until it says that all is done.
        """
        server = self.server()
        stage: Stage
        if isinstance(server, ServerV1):
            server.require_staging(source_path)
            stage = TaskV1(server, server.stage_out(system_name, source_path))
        else:
            stage = self._stage_v2(server, system_name, source_path, account, eager)
        return ExternalDownload(self, stage, self.session, self.objects)

    def _stage_v2(
        self, server: ServerV2, system: str, path: str, account: str | None, eager: bool
    ) -> DownloadV2 | NothingV2:
        clean = checked_for_job(path)
        found = server.stat(system, clean, dereference=True)
        if int(found.get("mode", 0)) & 0o170000 == _DIRECTORY:
            raise refusal(errno.EISDIR, "a directory can't be staged: make an archive of it", path)
        if not found.get("size"):
            return NothingV2(system, clean)
        if any(character.isspace() for character in clean):
            text = "the path holds white space, which FirecREST's jobs can't stage: link to it"
            raise refusal(errno.EINVAL, text, path)
        return DownloadV2(server, self.objects, system, clean, account, eager)

    def external_upload(
        self,
        system_name: str,
        source_path: Local,
        target_path: str,
        *,
        account: str | None = None,
    ) -> ExternalUpload:
        """Prepare to send a local file, or a seekable binary stream, of any size.

        *target_path* is a directory that is there, or the whole path of the file. Nothing has been
        sent yet: see `ExternalUpload.finish_upload`. On v2 a batch job fetches it, paid by
        *account* where the site wants one.
        """
        server = self.server()
        size, local = size_and_name(source_path)
        name = local.rpartition("/")[2]
        landing = Landing(server, system_name, checked_path(target_path), name, size)
        stage: UploadStage
        if isinstance(server, ServerV1) and (size or server.stages_empty_files):
            server.require_staging(landing.path)
            fit = not any(c in FORBIDDEN or c.isspace() or c in "$,{}*?" for c in local)
            told = local if fit and local else "upload.bin"
            stage = TaskV1(server, server.stage_in(system_name, landing.path, told))
        elif size and isinstance(server, ServerV2):
            path = checked_for_job(landing.path)
            stage = UploadV2(server, system_name, path, local, size, account)
        else:
            stage = EmptyUpload(server, system_name, landing.path, local)
        return ExternalUpload(self, stage, self.session, self.objects, landing, source_path)


def _submit_v1(
    server: ServerV1,
    system: str,
    operation: str,
    source: str | None,
    target: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    paths = {"targetPath": target} | ({"sourcePath": source} if source is not None else {})
    dereference = "true" if options.pop("dereference", False) else None
    return server.plain_transfer(system, operation, paths, dereference=dereference, **options)


def _submit_v2(
    server: ServerV2,
    system: str,
    operation: str,
    source: str | None,
    target: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    refused = [key for key in ("job_name", "time", "stage_out_job_id") if options.get(key)]
    if operation == "rsync" or refused:
        what = "jobs of rsync" if operation == "rsync" else f"{', '.join(refused)} for such a job"
        raise refusal(errno.EOPNOTSUPP, f"FirecREST v2 has no {what}", source)
    clean, account = checked_for_job(target), options.get("account")
    if source is None:
        told = server.transfer_rm(system, clean, account)
    else:
        body: dict[str, Any] = {"sourcePath": checked_for_job(source), "targetPath": clean}
        body |= {"account": account} if account else {}
        body |= {"dereference": True} if options.get("dereference") else {}
        if operation == "extract":
            extension = str(options.get("extension") or "auto")
            named = source if extension == "auto" else extension
            body["compression"] = shapes.compression_of(named)
        told = server.transfer(system, operation, body)
    job = TransferJob.of(system, told)
    found = {"standardOutput": job.output_log, "standardError": job.error_log}
    return shapes.submitted(system, job.job_id, found)


def _landing(server: ServerV2, system: str, source: str, target: str) -> str:
    """Return where `mv` or `cp` puts *source*."""
    found = _there(server, system, target, dereference=True)
    if found is not None and int(found.get("mode", 0)) & 0o170000 == _DIRECTORY:
        return f"{target.rstrip('/')}/{source.rpartition('/')[2]}"
    return target


def _there(
    server: ServerV2, system: str, path: str, *, dereference: bool = False
) -> dict[str, Any] | None:
    try:
        return server.stat(system, path, dereference=dereference)
    except NotFound:
        return None


def _same(there: dict[str, Any], before: dict[str, Any]) -> bool:
    """Tell whether both are of one kind, and of one size unless they are directories."""
    kinds = {int(raw.get("mode", 0)) & 0o170000 for raw in (there, before)}
    return len(kinds) == 1 and (_DIRECTORY in kinds or there.get("size") == before.get("size"))
