"""API v1 on top of the emulated clusters: the services behind one gateway.

    entry answers       the outer form of requests and answers
    remote verdicts     run commands and take their output as text; name the errors in it
    status              what the site is made of
    utilities           operations on files; `call` has what they share, `lstext` reads listings
    tasks background    progress of what goes on behind the answers
    compute slurm       batch jobs
    internal external   storage: transfers as jobs, and by way of the object store

What a command *does* is in the package above.
"""

from __future__ import annotations

from flask import Flask, Response, g, request

from ..site import Site
from .answers import Answer, from_gateway, refused_by_server, reply, sendable
from .background import Background
from .compute import Compute
from .entry import authenticate
from .external import External
from .internal import Internal
from .status import Status
from .tasks import TaskBoard, Tasks
from .utilities import Utilities

_METHODS = {
    "status": {"GET"},
    "utilities": {"GET", "POST", "PUT", "DELETE"},
    "storage": {"GET", "POST"},
    "compute": {"GET", "POST", "DELETE"},
    "tasks": {"GET"},
}
_LONGEST_LINE = 4094


def register(app: Flask, site: Site) -> None:
    """Add the routes of API v1 and their common behaviour to *app*."""
    app.url_map.strict_slashes = True
    Status(site).register(app)
    Utilities(site).register(app)
    board = TaskBoard()
    background = Background(site, board)
    Tasks(board).register(app)
    Compute(background).register(app)
    Internal(background).register(app)
    External(background).register(app)
    for service in ("utilities", "storage", "compute", "tasks"):
        rule = f"/{service}/status"
        app.add_url_rule(rule, f"{service}/status", lambda: reply({"success": "ack"}))
    app.before_request(lambda: _before(site))
    app.after_request(_after)
    app.register_error_handler(Answer, _reply_answer)


def canonical_path(path: str) -> str:
    """Return the path that is routed: the one that came."""
    return path


def _before(site: Site) -> Response | None:
    service = request.path.split("/")[1]
    if service.startswith("_"):
        return None
    g.is_api = True
    methods = _METHODS.get(service)
    if methods is None or not (site.knobs.open_gateway or request.method in methods):
        return from_gateway(400, "Invalid")
    length = _request_line(service)
    if length > _LONGEST_LINE:
        return refused_by_server(f"Request Line is too large ({length} > {_LONGEST_LINE})")
    if request.routing_exception is None:
        authenticate(site)
    return None


def _request_line(service: str) -> int:
    """Return the length of the line with which the gateway passes the request on."""
    raw = str(request.environ.get("REQUEST_URI", request.full_path))
    return len(f"{request.method} {raw.removeprefix('/' + service)} HTTP/1.1")


def _after(response: Response) -> Response:
    return sendable(response) if hasattr(g, "is_api") else response


def _reply_answer(answer: Answer) -> Response:
    return reply(answer.body, answer.status, answer.headers)
