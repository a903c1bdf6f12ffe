"""`/status/*`: what the site is made of, and how it is."""

from __future__ import annotations

import datetime
import time
from typing import Any

from flask import Flask, Response, current_app

from ..cluster import Cluster
from ..site import Site
from .answers import VERSION, reply
from .entry import authenticate, enter
from .fields import Query

SLURM_VERSION = "22.05.8"
_HIDDEN = "**********"
_WORMHOLE = {"serviceType": "wormhole", "pypiIndexUrl": None}
STREAMER: dict[str, Any] = {
    "serviceType": "streamer",
    "pypiIndexUrl": None,
    "host": "127.0.0.1",
    "portRange": [5665, 5675],
    "publicIps": ["127.0.0.1"],
    "waitTimeout": 3600,
    "inboundTransferLimit": 5368709120,
}


class Status:
    """The handlers."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, app: Flask) -> None:
        """Add the routes."""
        app.add_url_rule("/status/liveness/", "status/liveness", self.liveness)
        app.add_url_rule("/openapi.json", "openapi", self.openapi)
        app.add_url_rule("/status/systems", "status/systems", self.systems)
        for name in ("userinfo", "nodes", "partitions", "reservations"):
            app.add_url_rule(f"/status/<system>/{name}", f"status/{name}", getattr(self, name))

    def liveness(self) -> Response:
        """Say when each cluster was last looked at. Needs no token."""
        runs = {name: self._checked() for name in self._site.clusters}
        return reply({"healthcheckRuns": runs, "lastUpdate": int(self._age())})

    def openapi(self) -> Response:
        """Name the routes, in the form of the published description but without its details."""
        paths: dict[str, dict[str, Any]] = {}
        for rule in current_app.url_map.iter_rules():
            path = (
                rule.rule.replace("<", "{").replace(">", "}").replace("{system}", "{system_name}")
            )
            methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            if not path.startswith("/_"):
                paths.setdefault(path, {}).update({method.lower(): {} for method in methods})
        info = {"title": "FirecREST", "version": VERSION}
        return reply({"openapi": "3.1.0", "info": info, "paths": paths})

    def systems(self) -> Response:
        """Describe all clusters."""
        authenticate(self._site)
        return reply({"systems": [self._system(one) for one in self._site.clusters.values()]})

    def userinfo(self, system: str) -> Response:
        """Tell who the user is on a cluster."""
        call = enter(self._site, system)
        call.check_scheduler()
        account = call.login.account
        groups = [{"id": str(group.gid), "name": group.name} for group in account.groups]
        projects = [
            {"name": name, "default": name == account.projects[0]} for name in account.projects
        ]
        user = {"id": str(account.uid), "name": account.name}
        return reply({"user": user, "group": groups[0], "groups": groups, "accounts": projects})

    def nodes(self, system: str) -> Response:
        """Describe the compute nodes."""
        cluster = self._enter(system)
        return reply({"nodes": [_node(name) for name in cluster.nodes]})

    def partitions(self, system: str) -> Response:
        """Describe the partitions."""
        cluster = self._enter(system)
        query = Query()
        query.boolean("show_hidden")
        query.done()
        total = len(cluster.nodes)
        rows = [
            {"name": name, "cpus": 8 * total, "totalNodes": total, "partition": "UP"}
            for name in cluster.partitions
        ]
        return reply({"partitions": rows})

    def reservations(self, system: str) -> Response:
        """Describe the reservations: there are none."""
        self._enter(system)
        return reply({"reservations": []})

    def _enter(self, system: str) -> Cluster:
        call = enter(self._site, system)
        _ = call.login
        return call.cluster

    def _age(self) -> float:
        return (time.time() - self._site.started) % 60

    def _checked(self) -> str:
        when = datetime.datetime.fromtimestamp(time.time() - self._age(), datetime.timezone.utc)
        return when.isoformat().replace("+00:00", "Z")

    def _system(self, cluster: Cluster) -> dict[str, Any]:
        knobs = self._site.knobs
        seconds = _whole(knobs.command_seconds)
        limits = {"connection": 5, "login": 5, "commandExecution": seconds}
        probes = {"ssh": 5, "filesystem": 5, "scheduler": 10, "s3": 20}
        services = {name: {"timeout": value} for name, value in probes.items()}
        return {
            "name": cluster.name,
            "ssh": {
                "host": "127.0.0.1",
                "port": 22,
                "proxyHost": None,
                "proxyPort": None,
                "maxClients": 500,
                "timeout": {**limits, "idleTimeout": 60, "keepAlive": 5},
            },
            "scheduler": {
                "type": "slurm",
                "connectionMode": "ssh",
                "version": SLURM_VERSION,
                "apiUrl": None,
                "apiVersion": None,
                "timeout": 10,
            },
            "servicesHealth": self._health(cluster) if knobs.probing else [],
            "probing": {"services": services if knobs.probing else None, "intervalCheck": 60},
            "lastHealthCheck": self._checked() if knobs.probing else None,
            "fileSystems": [
                {"path": fs.path, "dataType": fs.kind, "defaultWorkDir": fs.default_work_dir}
                for fs in cluster.file_systems
            ],
            "dataOperation": self._data_operation(cluster),
        }

    def _health(self, cluster: Cluster) -> list[dict[str, Any]]:
        ping = f"[{{'mode': 'primary', 'hostname': '{cluster.nodes[0]}', 'pinged': 'UP'}}]"
        rows = [self._service("scheduler", "scheduler", ping), self._service("ssh", "ssh")]
        for fs in cluster.file_systems:
            rows.append({**self._service("filesystem", fs.path), "path": fs.path})
        return [*rows, self._service("s3", "s3")] if cluster.spec.transfer == "s3" else rows

    def _service(self, kind: str, name: str, message: str | None = None) -> dict[str, Any]:
        down = name in self._site.knobs.unhealthy_services
        return {
            "serviceType": kind,
            "lastChecked": self._checked(),
            "latency": 0.0123,
            "healthy": not down,
            "message": "Command execution timeout limit exceeded." if down else message,
        }

    def _data_operation(self, cluster: Cluster) -> dict[str, Any]:
        knobs = self._site.knobs
        return {
            "datatransfer_jobs_directives": cluster.transfer_directives,
            "max_ops_file_size": knobs.max_ops_file_size,
            "data_transfer": self._data_transfer(cluster),
        }

    def _data_transfer(self, cluster: Cluster) -> dict[str, Any]:
        others = {"streamer": STREAMER, "wormhole": _WORMHOLE}
        return others.get(cluster.spec.transfer) or self._s3(cluster)

    def _s3(self, cluster: Cluster) -> dict[str, Any]:
        return {
            "serviceType": "s3",
            "name": "s3-storage",
            "privateUrl": _HIDDEN,
            "publicUrl": self._site.store.url,
            "accessKeyId": _HIDDEN,
            "secretAccessKey": _HIDDEN,
            "region": "us-east-1",
            "ttl": self._site.knobs.url_ttl,
            "tenant": None,
            "multipart": {
                "use_split": False,
                "max_part_size": cluster.max_part_size,
                "parallel_runs": 3,
                "tmp_folder": "tmp",
            },
            "bucketLifecycleConfiguration": {"days": 10},
        }


def _whole(seconds: float) -> int | float:
    return int(seconds) if seconds == int(seconds) else seconds


def _node(name: str) -> dict[str, Any]:
    return {
        "sockets": 8,
        "cores": 8,
        "threads": 8,
        "cpus": 8,
        "cpuLoad": 0.25,
        "freeMemory": 12000,
        "features": "cpu",
        "name": name,
        "address": "127.0.0.1",
        "hostname": name,
        "state": ["IDLE"],
        "partitions": ["part01", "xfer"],
        "weight": 1,
        "allocMemory": 0,
        "allocCpus": 0,
        "idleCpus": 8,
    }
