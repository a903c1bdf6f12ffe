"""The client of FirecREST: everything that speaks HTTP is in here, and nothing of it gets out.

Layers, lower ones first: `fault_table`, `faults`, `transport` (what went wrong), `wire` (sockets
that notice an interrupt), `tokens`, `auth` (access tokens), `session` (sends requests), `names`
(paths and odd names), `multipart`, `v2` (one method an endpoint), `zone`, `decode`, `client` (the
tutorial's client), `reading`, `typed` (the same as model values). All classes are thread-safe. The
only exceptions that leave are `OSError`s; the server's refusals are `FirecrestException`s.
"""

from ..errors import FirecrestException
from .auth import ClientCredentialsAuth, StaticToken, TokenCommand, TokenFile, TokenSource
from .client import Firecrest
from .faults import (
    Exists,
    Inexact,
    IsADirectory,
    JobNotFound,
    NotADirectory,
    NotFound,
    PermissionRefused,
    RateLimited,
    SystemUnknown,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unreachable,
)
from .session import ApiSession
from .typed import TypedClient
from .v2 import ServerV2
from .zone import ClusterZone

__all__ = [
    "ApiSession",
    "ClientCredentialsAuth",
    "ClusterZone",
    "Exists",
    "Firecrest",
    "FirecrestException",
    "Inexact",
    "IsADirectory",
    "JobNotFound",
    "NotADirectory",
    "NotFound",
    "PermissionRefused",
    "RateLimited",
    "ServerV2",
    "StaticToken",
    "SystemUnknown",
    "TimedOut",
    "TokenCommand",
    "TokenFile",
    "TokenSource",
    "TooLarge",
    "TypedClient",
    "Unauthorized",
    "Unreachable",
]
