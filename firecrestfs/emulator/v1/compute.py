"""`/compute/*`: batch jobs. Every call makes a task; its data is the answer proper."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from werkzeug.utils import secure_filename

from .. import reading, writing
from ..jobs import Submission
from ..login import Login
from ..scheduler import Scheduler
from . import slurm
from .answers import Answer, task_created, too_large
from .background import Background
from .entry import TooLarge, checked, cluster_of, complaint, form, is_true, machine, username
from .remote import Failed, Session, one_line
from .status import megabytes
from .verdicts import path_header

_JOBS = "Failed to retrieve jobs information"
_JOB = "Failed to retrieve job information"
_ACCT = "Failed to retrieve account information"
_SUBMIT = "Failed to submit job"
_UPLOAD = "Failed to submit job file"
_DELETE = "Failed to delete job"
_DEFAULT_PAGE = 25


class Compute:
    """The handlers."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._site = background.site

    def register(self, app: Flask) -> None:
        """Add the routes."""
        routes: list[tuple[str, str, str, Callable[..., Response]]] = [
            ("POST", "jobs/upload", "jobs/upload", self._limited(self.submit_upload)),
            ("POST", "jobs/path", "jobs/path", self._limited(self.submit_path)),
            ("GET", "jobs", "jobs", self.queue),
            ("GET", "jobs/<job_id>", "jobs/get", self.job),
            ("DELETE", "jobs/<job_id>", "jobs/cancel", self.cancel),
            ("GET", "acct", "acct", self.acct),
            ("GET", "nodes", "nodes", self.nodes),
            ("GET", "nodes/<name>", "nodes/get", self.node),
            ("GET", "partitions", "partitions", self.partitions),
            ("GET", "reservations", "reservations", self.reservations),
        ]
        for method, rule, name, handler in routes:
            app.add_url_rule(f"/compute/{rule}", f"compute/{name}", handler, methods=[method])

    def _limited(self, handler: Callable[[], Response]) -> Callable[[], Response]:
        def answer() -> Response:
            try:
                return handler()
            except TooLarge:
                size = megabytes(self._site.knobs.max_ops_file_size)
                return too_large(f"Failed to upload batch script. The file is over {size} MB")

        return answer

    # -- submission ---------------------------------------------------------------------------

    def submit_upload(self) -> Response:
        """Submit a script that comes with the request."""
        session = self._session(_UPLOAD)
        account = self._account()
        check_access(session)
        part = request.files.get("file")
        if part is None:
            raise Answer(400, description=_UPLOAD, error="No batch file part")
        name, content = secure_filename(part.filename or ""), part.read()
        if not name:
            raise Answer(400, description=_UPLOAD, error="No batch file selected")
        if not content:
            raise Answer(400, description=_UPLOAD, error="Batch file is empty")
        env = _environment("Invalid JSON in 'env' variable ({})")
        return task_created(submit(self._background, session, name, content, account, env), 201)

    def submit_path(self) -> Response:
        """Submit a script that lies on the cluster."""
        if "X-Machine-Name" not in request.headers:
            raise Answer(400, description=_SUBMIT, error="No machine name given")
        session = self._session(_SUBMIT)
        path = checked(form(self._site).get("targetPath"), "targetPath", _SUBMIT)
        account = self._account()
        check_access(session)
        try:
            check_readable(session, path)
        except Failed as exc:
            header = path_header(exc, path, directory=False)
            raise Answer(400, header, description=_SUBMIT) from exc
        env = _environment("Invalid JSON environment provided")
        folder = os.path.dirname(path) or session.login.home
        request_ = Submission(folder, script_path=path, account=account, env=env)
        task_id = self._background.compute(session, lambda _: _sbatch(session, request_))
        return task_created(task_id, 201)

    def _account(self) -> str:
        account = form(self._site).get("account")
        return "" if account is None else checked(account, "account", "Invalid account")

    # -- queries ------------------------------------------------------------------------------

    def queue(self) -> Response:
        """List unfinished jobs, with the ends of their output."""
        session = self._open(_JOBS)
        mine = is_true(request.args.get("userJobs", "true"))
        page = _page()
        ids = _job_list(request.args.get("jobs"))
        user = session.username if mine else None

        def work(_: str) -> Any:
            rows = _cut(slurm.squeue(session, user, ids), page)
            for row in rows:
                row.update(_files(session, row["jobid"], mine))
            return {str(number): row for number, row in enumerate(rows)}

        return task_created(self._background.compute(session, work))

    def job(self, job_id: str) -> Response:
        """Begin to look for one job, and never end: the real server's thread dies at once."""
        session = self._session(_JOB)
        if not slurm.is_job_id(job_id):
            raise Answer(400, description=_JOB, error=f"{job_id} is not a valid job ID")
        check_access(session)
        board = self._background.board
        return task_created(board.create(session.username, "compute", session.cluster.name))

    def cancel(self, job_id: str) -> Response:
        """End a job."""
        session = self._session(_DELETE)
        checked(job_id, "jobid", _DELETE)
        check_access(session)
        scheduler = session.cluster.scheduler
        return task_created(
            self._background.compute(session, lambda _: _scancel(session, scheduler, job_id))
        )

    def acct(self) -> Response:
        """List jobs, also those that have ended."""
        session = self._open(_ACCT)
        args = request.args
        ids = args.get("jobs", "")
        if ids:
            checked(ids, "jobs", _ACCT)
        start, end = args.get("starttime", ""), args.get("endtime", "")
        page = _page()

        def work(_: str) -> Any:
            rows = slurm.sacct(session, ids.split(","), start, end)
            return _cut(rows, page) if rows else _cut_nothing(page)

        return task_created(self._background.compute(session, work))

    def nodes(self) -> Response:
        """Describe the nodes."""
        return self._describe("node", "nodes", slurm.nodes)

    def node(self, name: str) -> Response:
        """Describe one node."""
        session = self._open(_ACCT)
        if complaint(name):
            words = f"nodeName '{name}' {complaint(name)}"
            raise Answer(400, description="Failed to retrieve node", error=words)
        work = self._background.compute(session, lambda _: slurm.nodes(session, [name]))
        return task_created(work)

    def partitions(self) -> Response:
        """Describe the partitions."""
        return self._describe("partition", "partitions", slurm.partitions)

    def reservations(self) -> Response:
        """Describe the reservations: there are none."""
        return self._describe("reservations", "reservations", lambda *_: [])

    def _describe(
        self, label: str, name: str, work: Callable[[Session, list[str] | None], Any]
    ) -> Response:
        session = self._open(_ACCT)
        value = request.args.get(name)
        if value is not None and complaint(value):
            words = f"{label} '{value}' {complaint(value)}"
            raise Answer(400, description=f"Failed to retrieve {name} information", error=words)
        names = None if value is None else value.split(",")
        return task_created(self._background.compute(session, lambda _: work(session, names)))

    # -- common -------------------------------------------------------------------------------

    def _session(self, description: str) -> Session:
        machine()
        return Session(self._site, cluster_of(self._site, description), username())

    def _open(self, description: str) -> Session:
        session = self._session(description)
        check_access(session)
        return session


def check_access(session: Session) -> None:
    """Try whether the user can run anything at all. Raises Answer."""
    try:
        _ = session.login
    except Failed as exc:
        if exc.code in (-2, errno.EHOSTUNREACH):
            header = {"X-Machine-Not-Available": "Machine is not available"}
            raise Answer(400, header, description=_JOBS) from exc
        raise Answer(400, description=_JOBS) from exc


def check_readable(session: Session, path: str) -> None:
    """Read the first byte of a file. Raises Failed."""

    def command(login: Login) -> str:
        reading.head(login, session.word("head -c 1 -- '{path}'", path), "bytes", "1")
        return ""

    session.run(command)


def submit(
    background: Background,
    session: Session,
    name: str,
    script: bytes,
    account: str = "",
    env: dict[str, str] | None = None,
) -> str:
    """Store a script in a directory of its own and submit it. Returns the task's id."""

    def work(task_id: str) -> dict[str, str]:
        folder = f"{session.cluster.home(session.login.account)}/firecrest/{task_id}"
        path = f"{folder}/{name}"
        session.run(lambda login: _store(login, folder, path, script))
        request_ = Submission(folder, script_path=path, account=account, env=env or {})
        return _sbatch(session, request_)

    return background.compute(session, work)


def _store(login: Login, folder: str, path: str, script: bytes) -> str:
    writing.mkdir(login, folder, parents=True)
    writing.cat(login, path, io.BytesIO(script), len(script))
    return ""


def _sbatch(session: Session, request_: Submission) -> dict[str, str]:
    scheduler = session.cluster.scheduler
    text = session.run(lambda login: f"Submitted batch job {scheduler.submit(login, request_)}\n")
    job_id = text.rsplit(" ", 1)[-1]
    files = slurm.describe_files(session, job_id, output=False)
    return {"result": "Job submitted", "jobid": job_id, **files}


def _scancel(session: Session, scheduler: Scheduler, job_id: str) -> str:
    """Return what `scancel -v` says. Raises Failed."""

    def command(login: Login) -> str:
        scheduler.cancel(login, job_id)
        return ""

    try:
        session.run(command)
    except Failed as exc:
        raise Failed(1, one_line(exc.text)) from exc
    return f"scancel: Terminating job {job_id}"


def _files(session: Session, job_id: str, mine: bool) -> dict[str, str]:
    if mine:
        return slurm.describe_files(session, job_id, output=True)
    words = "Job files information is not available when `userJobs` is False"
    names = ("job_file", "job_file_out", "job_file_err", "job_data_out", "job_data_err")
    return {**dict.fromkeys(names, ""), "job_info_extra": words}


def _environment(refusal: str) -> dict[str, str]:
    text = request.form.get("env")
    if not text:
        return {}
    try:
        pairs = json.loads(text)
    except ValueError as exc:
        raise Answer(404, description=_SUBMIT, error=refusal.format(text)) from exc
    return {str(name): str(value) for name, value in dict(pairs).items()}


def _job_list(text: str | None) -> list[str] | None:
    if text is None:
        return None
    ids = checked(text, "jobs", _JOB).split(",")
    if "" in ids:
        raise Answer(400, description=_JOB, error="Jobs list wrong format")
    for job_id in ids:
        if not slurm.is_job_id(job_id):
            raise Answer(400, description=_JOB, error=f"{job_id} is not a valid job ID")
    return ids


def _page() -> tuple[int, int] | None:
    """Return size and number of the page that is asked for, None for all."""
    size, number = request.args.get("pageSize"), request.args.get("pageNumber")
    if size is None and number is None:
        return None
    return _integer(size, _DEFAULT_PAGE), _integer(number, 0)


def _integer(text: str | None, default: int) -> int:
    try:
        return int(text or "")
    except ValueError:
        return default


def _cut(rows: list[dict[str, str]], page: tuple[int, int] | None) -> list[dict[str, str]]:
    if page is None:
        return rows
    size, number = page
    pages = max(-(-len(rows) // size) if size else 0, 1 if not rows else 0)
    _check_page(number, pages)
    return rows[number * size : (number + 1) * size]


def _cut_nothing(page: tuple[int, int] | None) -> dict[str, str]:
    if page is not None:
        _check_page(page[1], 1)
    return {}


def _check_page(number: int, pages: int) -> None:
    if number < 0:
        raise Failed(1, f"pageNumber ({number}) cannot be a negative number")
    if number >= pages:
        raise Failed(1, f"pageNumber ({number}) is greater than total pages ({pages})")
