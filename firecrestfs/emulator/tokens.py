"""The identity provider: grants tokens for client credentials, and checks them."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import jwt

from .knobs import Knobs

_ALGORITHM = "HS256"


class TokenRefused(Exception):
    """A token that is not accepted; the text is that of API v2, `reason` a word for other ones."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason  # expired, signature or malformed


class GrantRefused(Exception):
    """A token request that is not granted: an OAuth2 error code and its description."""

    def __init__(self, code: str, description: str, status: int) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


class Client(NamedTuple):
    """A registered OAuth2 client and the user that its tokens stand for."""

    client_id: str
    secret: str
    username: str


class Tokens:
    """Issues and verifies access tokens. Safe from any thread."""

    def __init__(self, clients: list[Client], knobs: Knobs) -> None:
        self._clients = {client.client_id: client for client in clients}
        self._knobs = knobs
        self._key = secrets.token_bytes(32)
        self._kid = uuid.uuid4().hex
        self._verified: dict[
            str, tuple[float, str]
        ] = {}  # token → expiry, user; replaced, not locked
        self._not_before = 0.0

    def grant(self, form: Mapping[str, str], authorization: str) -> dict[str, object]:
        """Answer a token request. Raises GrantRefused."""
        client_id, secret = _credentials(form, authorization)
        client = self._clients.get(client_id)
        if client is None or not secrets.compare_digest(client.secret, secret):
            raise GrantRefused(
                "invalid_client", "Invalid client or Invalid client credentials", 401
            )
        if form.get("grant_type") != "client_credentials":
            raise GrantRefused("unsupported_grant_type", "Unsupported grant_type", 400)
        ttl = self._knobs.token_ttl
        return {
            "access_token": self.issue(client.username, ttl),
            "expires_in": int(ttl),
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": "firecrest-v2 profile email",
        }

    def issue(
        self, username: str, ttl: float, *, kid: str | None = None, key: bytes | None = None
    ) -> str:
        """Make a token for *username*; a foreign *kid* or *key* gives one that is refused."""
        now = time.time()
        claims = {
            "exp": now + ttl,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "preferred_username": username,
            "scope": "firecrest-v2 profile email",
        }
        return jwt.encode(
            claims, key or self._key, algorithm=_ALGORITHM, headers={"kid": kid or self._kid}
        )

    def revoke_all(self) -> None:
        """Make every token issued so far an expired one."""
        self._not_before = time.time()
        self._verified = {}

    def verify(self, token: str, shortest: float | None = None) -> str:
        """Return the user of a valid token. Raises TokenRefused.

        `shortest`: seconds of life that it must have left; without it the knob's value.
        """
        if shortest is None:
            shortest = self._knobs.min_token_ttl
        known = self._verified.get(token)
        expiry, username = known if known is not None else self._decode(token)
        left = expiry - time.time()
        if left <= 0:
            raise TokenRefused("Access token expired", "expired")
        if left < shortest:
            words = f"Access token expires too soon (less than {shortest:g}s remaining)."
            raise TokenRefused(words, "expired")
        return username

    def _decode(self, token: str) -> tuple[float, str]:
        try:
            if jwt.get_unverified_header(token).get("kid") != self._kid:
                raise TokenRefused("Token's public key not found.", "signature")
            claims = jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], options={"verify_exp": False}
            )
        except jwt.InvalidSignatureError as exc:
            raise TokenRefused("Access token is invalid.", "signature") from exc
        except jwt.PyJWTError as exc:
            raise TokenRefused("Access token is invalid.", "malformed") from exc
        if claims["iat"] < self._not_before:
            raise TokenRefused("Access token expired", "expired")
        known = (float(claims["exp"]), str(claims["preferred_username"]))
        # A fresh dict now and then keeps the memory of a long demo bounded.
        self._verified = {**(self._verified if len(self._verified) < 100 else {}), token: known}
        return known


def _credentials(form: Mapping[str, str], authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as exc:
            raise GrantRefused("invalid_request", "Malformed credentials", 400) from exc
        return user, password
    return form.get("client_id", ""), form.get("client_secret", "")
