"""`/status/*`: what the site is made of, and how it was when somebody looked last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request

from ..cluster import Cluster, FileSystem
from ..site import Site
from .answers import reply

SERVICES = ("certificator", "utilities", "compute", "tasks", "storage")
MEGABYTE = 1 << 20
_BUILD = "2025-07-15T13:48:30Z"
_KINDS = {"users": ("HOME", "Users home filesystem")}


class Status:
    """The handlers. Their answers are kept for all users, unless one asks not to."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()  # guards _kept
        self._kept: dict[str, tuple[float, Any, int]] = {}

    def register(self, app: Flask) -> None:
        """Add the routes."""
        routes: dict[str, Callable[..., tuple[Any, int]]] = {
            "services": self.services,
            "services/<name>": self.service,
            "systems": self.systems,
            "systems/<name>": self.system,
            "filesystems": self.all_file_systems,
            "filesystems/<name>": self.file_systems,
            "parameters": self.parameters,
        }
        for rule, handler in routes.items():
            endpoint = "status/" + rule.replace("/<name>", "/name")
            app.add_url_rule(f"/status/{rule}", endpoint, self._cached(handler))

    def _cached(self, handler: Callable[..., tuple[Any, int]]) -> Callable[..., Response]:
        def answer(**names: str) -> Response:
            fresh = "no-cache" in request.headers.get("Cache-Control", "")
            now = time.monotonic()
            with self._lock:
                kept = self._kept.get(request.path)
            if kept is None or fresh or kept[0] + self._site.knobs.status_cache < now:
                kept = (now, *handler(**names))
                with self._lock:
                    self._kept[request.path] = kept
            return reply(kept[1], kept[2])

        return answer

    # -- what they say ------------------------------------------------------------------------

    def services(self) -> tuple[Any, int]:
        """List the services: all are up."""
        words = "List of services with status and description."
        return {"description": words, "out": [_service(name) for name in SERVICES]}, 200

    def service(self, name: str) -> tuple[Any, int]:
        """Describe one service."""
        if name not in SERVICES:
            return {"description": "Service does not exists", "status_code": 404}, 404
        return _service(name), 200

    def systems(self) -> tuple[Any, int]:
        """List the systems."""
        rows = [self._system(cluster) for cluster in self._site.clusters.values()]
        words = "List of systems with status and description."
        return {"description": words, "out": rows}, 200

    def system(self, name: str) -> tuple[Any, int]:
        """Describe one system; here its file systems are looked at, too."""
        cluster = self._site.clusters.get(name)
        if cluster is None:
            return {"description": "System does not exists."}, 404
        row = self._system(cluster)
        failing = [fs.path for fs in cluster.file_systems if not self._is_healthy(cluster, fs)]
        if failing and not cluster.spec.down:
            row["description"] = f"Filesystem {','.join(failing)} is not available"
        return {"description": "System information", "out": row}, 200

    def all_file_systems(self) -> tuple[Any, int]:
        """Describe all file systems, by system."""
        out = {one.name: self._file_systems(one) for one in self._site.clusters.values()}
        return {"description": "Filesystem information", "out": out}, 200

    def file_systems(self, name: str) -> tuple[Any, int]:
        """Describe the file systems of one system."""
        words = f"Filesystem information for system {name}"
        cluster = self._site.clusters.get(name)
        if cluster is None:
            return {"description": words, "out": f"System '{name}' doesn't exist"}, 404
        return {"description": words, "out": self._file_systems(cluster)}, 200

    def parameters(self) -> tuple[Any, int]:
        """Describe the settings of the site."""
        knobs = self._site.knobs
        out = {
            "compute": [_parameter("WORKLOAD_MANAGER", "Slurm")],
            "general": [
                _parameter("FIRECREST_VERSION", knobs.server_version),
                _parameter("FIRECREST_BUILD", _BUILD),
            ],
            "storage": [
                _parameter("OBJECT_STORAGE", "s3v4"),
                _parameter("STORAGE_TEMPURL_EXP_TIME", str(knobs.url_ttl), "seconds"),
                _parameter("STORAGE_MAX_FILE_SIZE", "5120", "MB"),
                _parameter("FILESYSTEMS", self._mounted()),
            ],
            "utilities": [
                _parameter("UTILITIES_MAX_FILE_SIZE", megabytes(knobs.max_ops_file_size), "MB"),
                _parameter("UTILITIES_TIMEOUT", f"{knobs.command_seconds:g}", "seconds"),
            ],
        }
        if knobs.server_version == "-":
            del out["general"]
        return {"description": "Firecrest's parameters", "out": out}, 200

    def _mounted(self) -> list[dict[str, Any]]:
        return [
            {"mounted": [fs.path for fs in cluster.file_systems], "system": cluster.name}
            for cluster in self._site.clusters.values()
        ]

    def _system(self, cluster: Cluster) -> dict[str, str]:
        if cluster.spec.down or "ssh" in self._site.knobs.unhealthy_services:
            words, state = "System does not accept connections", "not available"
        else:
            words, state = "System ready", "available"
        return {"description": words, "status": state, "system": cluster.name}

    def _file_systems(self, cluster: Cluster) -> list[dict[str, Any]]:
        return [self._file_system(cluster, fs) for fs in cluster.file_systems]

    def _file_system(self, cluster: Cluster, fs: FileSystem) -> dict[str, Any]:
        kind = (fs.kind.upper(), f"{fs.kind.capitalize()} filesystem")
        name, description = _KINDS.get(fs.kind, kind)
        healthy = self._is_healthy(cluster, fs)
        return {
            "description": description,
            "name": name,
            "path": fs.path,
            "status": "available" if healthy else "not available",
            "status_code": 200 if healthy else 400,
        }

    def _is_healthy(self, cluster: Cluster, fs: FileSystem) -> bool:
        unhealthy = self._site.knobs.unhealthy_services
        return not cluster.spec.down and not unhealthy & {"ssh", fs.path}


def megabytes(size: int) -> str:
    """Write a number of bytes as the site's settings do; a fraction where it takes one."""
    return str(size // MEGABYTE) if size % MEGABYTE == 0 else repr(size / MEGABYTE)


def _service(name: str) -> dict[str, Any]:
    words = "server up & flask running"
    return {"description": words, "service": name, "status": "available", "status_code": 200}


_DESCRIPTIONS = {
    "WORKLOAD_MANAGER": "Type of resource and workload manager used in compute microservice.",
    "FIRECREST_VERSION": "FirecREST version.",
    "FIRECREST_BUILD": "FirecREST build timestamp.",
    "OBJECT_STORAGE": "Type of object storage, like `swift`, `s3v2` or `s3v4`.",
    "STORAGE_TEMPURL_EXP_TIME": "Expiration time for temp URLs.",
    "STORAGE_MAX_FILE_SIZE": "Maximum file size for temp URLs.",
    "FILESYSTEMS": "Available filesystems through the API.",
    "UTILITIES_MAX_FILE_SIZE": (
        "The maximum allowable file size for various operations of the utilities microservice."
    ),
    "UTILITIES_TIMEOUT": (
        "Maximum time duration for executing the commands in the cluster for the utilities"
        " microservice."
    ),
}


def _parameter(name: str, value: object, unit: str = "") -> dict[str, object]:
    return {"description": _DESCRIPTIONS[name], "name": name, "unit": unit, "value": value}
