"""All that one emulated FirecREST knows: the state behind the web layer, of every version."""

from __future__ import annotations

import dataclasses
import threading
import time

from .cluster import Cluster
from .faults import FaultBoard
from .knobs import Knobs
from .objectstore import ObjectStore
from .requestlog import RequestLog
from .shell import Alarms
from .tokens import Tokens


@dataclasses.dataclass
class Site:
    """The shared state. Each part guards itself; the parts are never replaced."""

    knobs: Knobs
    tokens: Tokens
    clusters: dict[str, Cluster]
    store: ObjectStore
    requests: RequestLog = dataclasses.field(default_factory=RequestLog)
    faults: FaultBoard = dataclasses.field(default_factory=FaultBoard)
    alarms: Alarms = dataclasses.field(default_factory=Alarms)
    notes: list[str] = dataclasses.field(default_factory=list)  # what this machine can't do
    started: float = dataclasses.field(default_factory=time.time)
    closed: threading.Event = dataclasses.field(default_factory=threading.Event)
    url: str = ""
