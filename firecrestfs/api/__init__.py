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
        _changing _tasks _jobs _plain v1             endpoints of API v1
    zone decode shapes                          JSON as model values, or as the tutorial's shapes
    object_faults object_moves objects          presigned links of the object store
    transferjobs upload_links stages
        external tickets                        files of any size, moving, copying
    jobcalls statuscalls storagecalls client    the tutorial's client: finds out the version
    reading renaming staging typed                  the same as model values: what the mount sees

All classes are thread-safe. The only exceptions that leave are `OSError`s; the server's refusals
are `FirecrestException`s. What callers must know about a version is in `model.Features`.
"""

from ..errors import FirecrestException
from ..model import Response
from .auth import ClientCredentialsAuth, StaticToken, TokenCommand, TokenFile, TokenSource
from .client import Firecrest
from .external import ExternalDownload, ExternalUpload
from .faults import (
    BadAnswer,
    ClientsCredentialsException,
    Exists,
    HeaderException,
    Inexact,
    IsADirectory,
    JobNotFound,
    NoJSONException,
    NotADirectory,
    NotFound,
    NotImplementedOnAPIversion,
    PermissionRefused,
    PollingIterException,
    RateLimited,
    Refused,
    StorageDownloadException,
    StorageUploadException,
    SystemUnknown,
    TimedOut,
    TooLarge,
    Unauthorized,
    UnauthorizedException,
    UnexpectedStatusException,
    Unreachable,
    Unsupported,
)
from .objects import ObjectStore
from .session import ApiSession
from .typed import TypedClient
from .v1 import ServerV1
from .v2 import ServerV2
from .zone import ClusterZone

#: pyFirecREST's name.
TokenCommandAuth = TokenCommand

__all__ = [
    "ApiSession",
    "BadAnswer",
    "ClientCredentialsAuth",
    "ClientsCredentialsException",
    "ClusterZone",
    "Exists",
    "ExternalDownload",
    "ExternalUpload",
    "Firecrest",
    "FirecrestException",
    "HeaderException",
    "Inexact",
    "IsADirectory",
    "JobNotFound",
    "NoJSONException",
    "NotADirectory",
    "NotFound",
    "NotImplementedOnAPIversion",
    "ObjectStore",
    "PermissionRefused",
    "PollingIterException",
    "RateLimited",
    "Refused",
    "Response",
    "ServerV1",
    "ServerV2",
    "StaticToken",
    "StorageDownloadException",
    "StorageUploadException",
    "SystemUnknown",
    "TimedOut",
    "TokenCommand",
    "TokenCommandAuth",
    "TokenFile",
    "TokenSource",
    "TooLarge",
    "TypedClient",
    "Unauthorized",
    "UnauthorizedException",
    "UnexpectedStatusException",
    "Unreachable",
    "Unsupported",
]
