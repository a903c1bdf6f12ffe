"""`/tasks`: how far work has come that goes on behind the answers.

A task is known twice: to the service itself, which answers for a single one, and to its storage,
from which lists are made. They differ: the storage keeps what the service hides (the commands and
certificates of uploads), and a deleted task stays in the lists for a while.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import hashlib
import itertools
import secrets
import threading
import time
from typing import Any

from flask import Flask, Response, abort, request

from .answers import Answer, reply
from .entry import checked, username

DESCRIPTIONS = {
    "100": "Queued",
    "101": "In progress",
    "110": "Waiting for Form URL from Object Storage to be retrieved",
    "111": "Form URL from Object Storage received",
    "112": "Object Storage confirms that upload to Object Storage has finished",
    "113": "Download from Object Storage to server has started",
    "114": "Download from Object Storage to server has finished",
    "115": "Download from Object Storage error",
    "116": "Started upload from filesystem to Object Storage",
    "117": "Upload from filesystem to Object Storage has finished succesfully",
    "118": "Upload from filesystem to Object Storage has finished with errors",
    "200": "Finished successfully",
    "300": "Deleted on request",
    "301": "Marked for expiration in persistence",
    "302": "Task not longer valid",
    "400": "Finished with errors",
}
_SECRETS = ("cert", "action", "download_url")
_DELETED_S = 300.0


class Forbidden(Exception):
    """A task of another user."""


@dataclasses.dataclass
class _Task:
    """One task. `kept` is what the lists show, until `expires`."""

    id: str
    user: str
    service: str
    system: str
    created: str
    updated: str
    status: str = "100"
    data: Any = DESCRIPTIONS["100"]
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)
    expires: float = float("inf")

    def shown(self) -> dict[str, Any]:
        return {
            "created_at": self.created,
            "data": copy.deepcopy(self.data),
            "description": DESCRIPTIONS[self.status],
            "hash_id": self.id,
            "last_modify": self.updated,
            "service": self.service,
            "status": self.status,
            "system": self.system,
            "task_id": self.id,
            "updated_at": self.updated,
            "user": self.user,
        }


class TaskBoard:
    """All tasks. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._tasks: dict[str, _Task] = {}
        self._numbers = itertools.count(1)
        self._salt = secrets.token_hex(8)  # or a second run in one root would repeat the ids

    def create(self, user: str, service: str, system: str) -> str:
        """Make a task; return its id."""
        with self._lock:
            text = f"{user}-{self._salt}-{next(self._numbers)}"
            task_id = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
            task = _Task(task_id, user, service, system, _now(), _now())
            task.kept = task.shown()
            self._tasks[task_id] = task
        return task_id

    def update(self, task_id: str, status: str, data: Any = None) -> None:
        """Bring a task forward. Without *data* it carries the words of its status."""
        with self._lock:
            task = self._tasks[task_id]
            task.status = status
            task.data = DESCRIPTIONS[status] if data is None else copy.deepcopy(data)
            task.updated = _now()
            task.kept = task.shown()
            task.expires = float("inf")

    def delete(self, task_id: str, user: str) -> None:
        """Make a task invalid. Raises KeyError, Forbidden."""
        with self._lock:
            task = self._owned_locked(task_id, user)
            task.expires = time.time() + _DELETED_S
            task.status, task.data, task.updated = "302", "", _now()

    def get(self, task_id: str, user: str) -> dict[str, Any]:
        """Return one task as its owner may see it. Raises KeyError, Forbidden."""
        with self._lock:
            shown = self._owned_locked(task_id, user).shown()
        message = shown["data"].get("msg") if isinstance(shown["data"], dict) else None
        if isinstance(message, dict):
            for name in _SECRETS:
                message.pop(name, None)
        return {**shown, "task_url": f"/tasks/{task_id}"}

    def listed(self, user: str | None = None) -> dict[str, dict[str, Any]]:
        """Return what the storage holds, of one user or of all, by id."""
        now = time.time()
        with self._lock:
            return {
                task.id: copy.deepcopy(task.kept)
                for task in self._tasks.values()
                if user in (None, task.user) and task.expires > now
            }

    def _owned_locked(self, task_id: str, user: str) -> _Task:
        task = self._tasks[task_id]
        if task.user != user:
            raise Forbidden
        return task


class Tasks:
    """The handlers."""

    def __init__(self, board: TaskBoard) -> None:
        self._board = board

    def register(self, app: Flask) -> None:
        """Add the routes."""
        app.add_url_rule("/tasks", "tasks/list", self.listing)
        app.add_url_rule("/tasks/", "tasks/list", self.listing)
        app.add_url_rule("/tasks/<task_id>", "tasks/get", self.get)
        app.add_url_rule("/tasks/<task_id>", "tasks/delete", self.delete, methods=["DELETE"])
        # Meant for the other services, which would send fields.
        put = "tasks/put"
        app.add_url_rule("/tasks/<task_id>", put, lambda task_id: abort(400), methods=["PUT"])

    def listing(self) -> Response:
        """List the user's tasks, or those of them that `tasks` names."""
        wanted = request.args.get("tasks")
        found = self._board.listed(username())
        if wanted is not None:
            ids = checked(wanted, "tasks", "Failed to retrieve tasks information").split(",")
            found = {task_id: task for task_id, task in found.items() if task_id in ids}
        return reply({"tasks": found})

    def get(self, task_id: str) -> Response:
        """Show one task."""
        try:
            return reply({"task": self._board.get(task_id, username())})
        except (KeyError, Forbidden) as exc:
            raise _refusal(task_id, exc) from exc

    def delete(self, task_id: str) -> Response:
        """Make a task invalid; the work goes on."""
        try:
            self._board.delete(task_id, username())
        except (KeyError, Forbidden) as exc:
            raise _refusal(task_id, exc) from exc
        return reply(None, 204)


def _refusal(task_id: str, reason: Exception) -> Answer:
    if isinstance(reason, Forbidden):
        return Answer(403, description="Operation not permitted. Invalid task owner.")
    return Answer(404, error=f"Task {task_id} does not exist")


def _now() -> str:
    """Return the time on the clock of the services, which live in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
