"""The client of FirecREST: everything that speaks HTTP is in here, and nothing of it gets out.

Layers, lower ones first:

    fault_tools fault_table faults transport    what went wrong, as errno and text
    fault_v1                                    the same for API v1
    wire                                        sockets that notice a deadline and an interrupt
    tokens auth                                 access tokens
    pool session                                sends requests: paced, limited, repeated, logged
    names multipart archives submission         what may be sent, and what listings mean
    v2_http v2                                  one method an endpoint
    v1_http _shapes _listing _reading           the same methods, with the same results, on the
        _changing _tasks _jobs v1               endpoints of API v1
    zone decode shapes                          JSON as model values, or as the tutorial's shapes
    jobcalls client                             the tutorial's client: finds out the version
    reading renaming typed                      the same as model values: what the mount sees

All classes are thread-safe. The only exceptions that leave are `OSError`s; the server's refusals
are `FirecrestException`s. What callers must know about a version is in `model.Features`.
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
from .v1 import ServerV1
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
    "ServerV1",
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
