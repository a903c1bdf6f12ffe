"""API v2 on top of the emulated clusters.

`entry` holds what all calls have in common, `answers` and `fields` the outer form of answers and
requests; `status`, `ops`, `compute` and `transfer` are the routes. What a command *does* is in
the package above, what a transfer job does in `jobscripts`.
"""

from __future__ import annotations

import logging

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import RequestRedirect

from ..site import Site
from .answers import ApiError, meta_headers, reply_error
from .compute import Compute
from .entry import Refused, check_tracing_ids
from .ops import Ops
from .status import Status
from .transfer import Transfer

_log = logging.getLogger(__name__)


def register(app: Flask, site: Site) -> None:
    """Add the routes of API v2 and their common behaviour to *app*."""
    Status(site).register(app)
    Ops(site).register(app)
    Compute(site).register(app)
    Transfer(site).register(app)
    app.before_request(_before)
    app.after_request(_after)
    app.register_error_handler(ApiError, reply_error)
    app.register_error_handler(Refused, lambda _: Response(b"", 400))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unhandled)


def canonical_path(path: str) -> str:
    """Return the path that is routed: the real server lower-cases it."""
    return path.lower()


def _before() -> Response | None:
    check_tracing_ids()
    rule = request.url_rule
    if rule is None:
        return None
    if request.method in ("HEAD", "OPTIONS"):
        raise MethodNotAllowed(valid_methods=["GET"])
    if rule.rule.endswith("/") != request.path.endswith("/"):
        return _redirect()
    return None


def _redirect() -> Response:
    """Send the client to the same path with the other number of trailing slashes."""
    path = request.path.rstrip("/") + ("" if request.path.endswith("/") else "/")
    query = request.query_string.decode("latin-1")
    location = f"{request.host_url.rstrip('/')}{path}" + (f"?{query}" if query else "")
    response = Response(b"", 307, meta_headers())
    response.autocorrect_location_header = False
    response.headers["Location"] = location
    return response


def _after(response: Response) -> Response:
    for name in ("X-Request-ID", "X-Correlation-ID"):
        if hasattr(g, name):
            response.headers[name] = getattr(g, name)
    return response


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, NotFound) and _matches_without_slash():
        return _redirect()
    headers = {}
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(_own_methods(error)))
    return reply_error(ApiError(error.code or 500, error.name, headers=headers))


def _own_methods(error: MethodNotAllowed) -> set[str]:
    """Leave out the methods that the framework adds by itself."""
    return set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}


def _matches_without_slash() -> bool:
    adapter = current_app.create_url_adapter(request)
    if adapter is None or not request.path.endswith("/"):
        return False
    try:
        adapter.match(request.path.rstrip("/"), method=request.method)
    except (HTTPException, RequestRedirect):
        return False
    return True


def _unhandled(error: Exception) -> Response:
    _log.error("%s %s", request.method, request.path, exc_info=error)
    return reply_error(ApiError(500, str(error.args), unhandled=True))
