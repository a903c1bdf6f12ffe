"""`/_emulator/*`: how a test in another process watches and steers; no token, no latency."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, jsonify, request

from .knobs import table
from .site import Site


class Control:
    """The handlers."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, app: Flask) -> None:
        """Add the routes."""
        routes: list[tuple[str, list[str], Any]] = [
            ("requests", ["GET"], self.requests),
            ("alarms", ["GET"], self.alarms),
            ("state", ["GET"], self.state),
            ("set", ["POST"], self.set),
            ("faults", ["GET", "POST", "DELETE"], self.faults),
            ("expire-tokens", ["POST"], self.expire_tokens),
        ]
        for name, methods, handler in routes:
            app.add_url_rule(f"/_emulator/{name}", f"_emulator/{name}", handler, methods=methods)

    def requests(self) -> Response:
        """Return the log; with `?reset=1` also clear it."""
        log = self._site.requests
        entries = log.clear() if request.args.get("reset") else log.snapshot()
        return jsonify([entry._asdict() for entry in entries])

    def alarms(self) -> Response:
        """Return the commands that paths would have changed; with `?reset=1` also clear them."""
        lines = self._site.alarms.list()
        if request.args.get("reset"):
            self._site.alarms.clear()
        return jsonify(lines)

    def state(self) -> Response:
        """Return settings, clusters, and what this machine can't do."""
        site = self._site
        return jsonify(
            {
                "settings": site.knobs.as_dict(),
                "knobs": [row._asdict() for row in table()],
                "systems": [cluster.describe() for cluster in site.clusters.values()],
                "notes": site.notes,
            }
        )

    def set(self) -> tuple[Response, int] | Response:
        """Set knobs from `{name: value}`; nothing is changed if one of them is wrong."""
        before = self._site.knobs.as_dict()
        try:
            for name, value in request.get_json(force=True).items():
                self._site.knobs.put(name, value)
        except ValueError as exc:
            for name, value in before.items():
                setattr(self._site.knobs, name, value)
            return jsonify({"error": str(exc)}), 400
        return jsonify(self._site.knobs.as_dict())

    def faults(self) -> tuple[Response, int] | Response:
        """Replace the rules (POST a list), remove them (DELETE), or show them."""
        board = self._site.faults
        if request.method == "DELETE":
            board.clear()
        elif request.method == "POST":
            rules = request.get_json(force=True)
            try:
                board.replace(rules if isinstance(rules, list) else [rules])
            except (ValueError, TypeError) as exc:
                return jsonify({"error": str(exc)}), 400
        return jsonify(board.rules())

    def expire_tokens(self) -> Response:
        """Make all tokens issued so far expired ones."""
        self._site.tokens.revoke_all()
        return jsonify({})
