"""The token endpoint of the site, where clients get their access tokens."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from .site import Site
from .tokens import GrantRefused

TOKEN_PATH = "/_auth/token"


def register(app: Flask, site: Site) -> None:
    """Add the token endpoint to *app*."""

    def token() -> tuple[Response, int] | Response:
        try:
            granted = site.tokens.grant(request.form, request.headers.get("Authorization", ""))
        except GrantRefused as exc:
            body = {"error": exc.code, "error_description": exc.description}
            return jsonify(body), exc.status
        return jsonify(granted)

    app.add_url_rule(TOKEN_PATH, "token", token, methods=["POST"])
