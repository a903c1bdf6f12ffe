"""Signatures of requests: who may do what, until when. Version 4 for URLs and forms, 2 for URLs."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import json
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .errors import StoreError

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST = 604800  # seconds that a URL of version 4 may live
_SKEW = 900  # seconds that the client's clock may be ahead
_STAMP = "%Y%m%dT%H%M%SZ"

Pairs = list[tuple[str, str]]


class Signed(NamedTuple):
    """What a signature covers. `path` is decoded; `resource` is what version 2 signs instead."""

    method: str
    path: str
    resource: str
    query: Pairs
    header: Callable[[str], str]

    def parameter(self, name: str) -> str:
        """Return a query parameter, empty if it is absent."""
        return dict(self.query).get(name, "")


class Signer:
    """One pair of keys, as the store and those that it trusts have it."""

    def __init__(self, key_id: str, secret: str, region: str = "us-east-1") -> None:
        self.key_id = key_id
        self.region = region
        self._secret = secret

    # -- version 4 ----------------------------------------------------------------------------

    def presign(
        self, method: str, host: str, path: str, expires: int, parameters: Iterable[tuple[str, str]]
    ) -> str:
        """Return the query string of a URL that allows *method* on *path*."""
        stamp = time.strftime(_STAMP, time.gmtime())
        query = [
            *parameters,
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", self._credential(stamp)),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", "host"),
        ]
        text = _string_to_sign(method, path, query, {"host": host}, stamp, self.region)
        query.append(("X-Amz-Signature", self._sign(stamp, text)))
        return "&".join(f"{_quote(name)}={_quote(value)}" for name, value in query)

    def verify(self, request: Signed) -> None:
        """Check the signature of a request. Raises StoreError."""
        if request.parameter("X-Amz-Signature"):
            self._verify_v4(request)
        elif request.parameter("Signature"):
            self._verify_v2(request)
        else:
            raise StoreError("AccessDenied")

    def _verify_v4(self, request: Signed) -> None:
        if request.parameter("X-Amz-Algorithm") != ALGORITHM:
            raise StoreError("AuthorizationQueryParametersError")
        stamp = request.parameter("X-Amz-Date")
        _check_time(stamp, request.parameter("X-Amz-Expires"))
        self._check_credential(request.parameter("X-Amz-Credential"), stamp)
        names = request.parameter("X-Amz-SignedHeaders").split(";")
        headers = {name: request.header(name) for name in names}
        query = [pair for pair in request.query if pair[0] != "X-Amz-Signature"]
        text = _string_to_sign(request.method, request.path, query, headers, stamp, self.region)
        self._compare(self._sign(stamp, text), request.parameter("X-Amz-Signature"), text)

    def _compare(self, expected: str, given: str, text: str) -> None:
        if not hmac.compare_digest(expected.encode(), given.encode()):
            raise StoreError(
                "SignatureDoesNotMatch",
                AWSAccessKeyId=self.key_id,
                StringToSign=text,
                SignatureProvided=given,
            )

    def _credential(self, stamp: str) -> str:
        return f"{self.key_id}/{stamp[:8]}/{self.region}/s3/aws4_request"

    def _check_credential(self, given: str, stamp: str) -> None:
        if given.split("/")[0] != self.key_id:
            raise StoreError("InvalidAccessKeyId", AWSAccessKeyId=given.split("/")[0])
        if given != self._credential(stamp):
            words = "Error parsing the X-Amz-Credential parameter"
            raise StoreError("AuthorizationQueryParametersError", words)

    def _sign(self, stamp: str, text: str) -> str:
        key = f"AWS4{self._secret}".encode()
        for step in (stamp[:8], self.region, "s3", "aws4_request"):
            key = hmac.digest(key, step.encode(), "sha256")
        return hmac.new(key, text.encode(), "sha256").hexdigest()

    # -- version 2 ----------------------------------------------------------------------------

    def presign_v2(self, method: str, resource: str, expires: int) -> dict[str, str]:
        """Return the query parameters of a URL that allows *method* on "/bucket/key"."""
        until = str(int(time.time()) + expires)
        signature = self._sign_v2(method, "", until, resource)
        return {"AWSAccessKeyId": self.key_id, "Signature": signature, "Expires": until}

    def _verify_v2(self, request: Signed) -> None:
        until = request.parameter("Expires")
        if not until.isdigit() or int(until) < time.time():
            raise StoreError("AccessDenied", "Request has expired")
        if request.parameter("AWSAccessKeyId") != self.key_id:
            raise StoreError("InvalidAccessKeyId")
        # The content type is signed, too: a client that sends one where none was signed fails.
        kind = request.header("content-type")
        expected = self._sign_v2(request.method, kind, until, request.resource)
        self._compare(expected, request.parameter("Signature"), "")

    def _sign_v2(self, method: str, kind: str, until: str, resource: str) -> str:
        text = f"{method}\n\n{kind}\n{until}\n{urllib.parse.quote(resource)}"
        digest = hmac.digest(self._secret.encode(), text.encode(), "sha1")
        return base64.b64encode(digest).decode()

    # -- forms --------------------------------------------------------------------------------

    def sign_form(self, bucket: str, key: str, expires: int) -> dict[str, str]:
        """Return the fields of a form that stores one file under *key*."""
        now = datetime.datetime.now(datetime.timezone.utc)
        until = (now + datetime.timedelta(seconds=expires)).strftime("%Y-%m-%dT%H:%M:%SZ")
        stamp = now.strftime(_STAMP)
        fields = {
            "x-amz-algorithm": ALGORITHM,
            "x-amz-credential": self._credential(stamp),
            "x-amz-date": stamp,
        }
        conditions = [{"bucket": bucket}, {"key": key}]
        conditions += [{name: value} for name, value in fields.items()]
        document = json.dumps({"expiration": until, "conditions": conditions})
        policy = base64.b64encode(document.encode()).decode()
        signature = self._sign(stamp, policy)
        return {"key": key, "policy": policy, **fields, "x-amz-signature": signature}

    def verify_form(self, bucket: str, fields: dict[str, str]) -> None:
        """Check policy and signature of a form. Raises StoreError. Names are in lower case."""
        for name in ("key", "policy", "x-amz-credential", "x-amz-date", "x-amz-signature"):
            if name not in fields:
                words = f"Bucket POST must contain a field named '{name}'.  If it is specified, "
                words += "please check the order of the fields."
                raise StoreError("InvalidArgument", words, ArgumentName=name, ArgumentValue="")
        self._check_credential(fields["x-amz-credential"], fields["x-amz-date"])
        policy = fields["policy"]
        expected = self._sign(fields["x-amz-date"], policy)
        self._compare(expected, fields["x-amz-signature"], policy)
        _check_policy(_parse_policy(policy), {**fields, "bucket": bucket})


def _parse_policy(policy: str) -> dict[str, Any]:
    try:
        parsed = json.loads(base64.b64decode(policy, validate=True))
        datetime.datetime.strptime(parsed["expiration"], "%Y-%m-%dT%H:%M:%SZ")
        return dict(parsed)
    except (binascii.Error, ValueError, KeyError, TypeError) as exc:
        raise StoreError("InvalidPolicyDocument", "Invalid Policy: Invalid JSON.") from exc


def _check_policy(policy: dict[str, Any], fields: dict[str, str]) -> None:
    if policy["expiration"] <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()):
        raise StoreError("AccessDenied", "Invalid according to Policy: Policy expired.")
    allowed = {"policy", "x-amz-signature", "file", "awsaccesskeyid"}
    for condition in policy["conditions"]:
        for operator, name, value in _conditions(condition):
            allowed.add(name)
            given = fields.get(name, "")
            if given != value if operator == "eq" else not given.startswith(value):
                words = f'["{operator}", "${name}", "{value}"]'
                raise _against_policy(f"Policy Condition failed: {words}")
    extra = [name for name in fields if name not in allowed and not name.startswith("x-ignore-")]
    if extra:
        raise _against_policy(f"Extra input fields: {', '.join(extra)}")


def _conditions(condition: Any) -> list[tuple[str, str, str]]:
    if isinstance(condition, dict):
        return [("eq", name.lower(), str(value)) for name, value in condition.items()]
    operator, name, value = condition
    if operator == "content-length-range":
        return []
    return [(operator, str(name).lstrip("$").lower(), str(value))]


def _against_policy(why: str) -> StoreError:
    return StoreError("AccessDenied", f"Invalid according to Policy: {why}")


def _check_time(stamp: str, expires: str) -> None:
    try:
        start = datetime.datetime.strptime(stamp, _STAMP).replace(tzinfo=datetime.timezone.utc)
        seconds = int(expires)
    except ValueError as exc:
        words = "X-Amz-Date and X-Amz-Expires must be a date and a number of seconds"
        raise StoreError("AuthorizationQueryParametersError", words) from exc
    if not 0 < seconds <= LONGEST:
        words = "X-Amz-Expires must be less than a week (in seconds); 604800 or less"
        raise StoreError("AuthorizationQueryParametersError", words)
    now = datetime.datetime.now(datetime.timezone.utc)
    end = start + datetime.timedelta(seconds=seconds)
    if start > now + datetime.timedelta(seconds=_SKEW):
        raise StoreError("AccessDenied", "Request is not valid yet")
    if end < now:
        times = {"Expires": _iso(end), "ServerTime": _iso(now)}
        raise StoreError("AccessDenied", "Request has expired", X_Amz_Expires=seconds, **times)


def _iso(when: datetime.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _string_to_sign(
    method: str, path: str, query: Pairs, headers: dict[str, str], stamp: str, region: str
) -> str:
    names = sorted(headers)
    canonical = [
        method,
        urllib.parse.quote(path, safe="/~"),
        "&".join(sorted(f"{_quote(name)}={_quote(value)}" for name, value in query)),
        *(f"{name}:{headers[name].strip()}" for name in names),
        "",
        ";".join(names),
        "UNSIGNED-PAYLOAD",
    ]
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    return "\n".join([ALGORITHM, stamp, f"{stamp[:8]}/{region}/s3/aws4_request", digest])


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="~")
