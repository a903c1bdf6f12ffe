"""A FirecREST server over local directories, for the demo and for all tests.

Not a mock: files are files, jobs are processes, and the answers are those of the real servers,
down to the words of their tools. It imports nothing of the rest of the package, so that both can
be wrong only independently. Where to read on, outside in:

    server      Emulator and serve: composition, start and end
    webserver   cheroot; connections that can be dropped
    frontdoor   what every request passes: log, latency, faults
    v1/ v2/     routes of the two APIs
    cluster     one cluster: accounts, file systems, jobs
    listing reading writing moving archives zipping
                the remote commands, independent of the API version; some are the real `tools`
    login       the session in which a command runs
    shell       how a shell would read a command line with a path pasted into it
    tree        remote paths onto local ones
    objectstore staging of large files, like S3
    jobs scheduler runner sandbox       batch jobs, which really run
    knobs faults requestlog manual      how tests steer and watch it, and the text on that
    populate    what the demo finds
"""

from __future__ import annotations

from .cluster import Cluster, FileSystem, SystemSpec
from .faults import Fault
from .manual import faults_help, settings_help
from .populate import Population, populate
from .requestlog import LoggedRequest
from .server import APIS, Emulator, serve

__all__ = [
    "APIS",
    "Cluster",
    "Emulator",
    "Fault",
    "FileSystem",
    "LoggedRequest",
    "Population",
    "SystemSpec",
    "faults_help",
    "populate",
    "serve",
    "settings_help",
]
