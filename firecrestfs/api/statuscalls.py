"""The tutorial's calls about the site: services, systems, settings, the user, the machine."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from ..errors import FirecrestException
from . import shapes
from .auth import bearer_of
from .decode import pick
from .faults import refusal
from .session import ApiSession
from .tokens import user_of
from .v1 import ServerV1
from .v2 import ServerV2


class StatusCalls(ABC):
    """The part of `Firecrest` that only looks."""

    session: ApiSession

    @abstractmethod
    def server(self) -> ServerV1 | ServerV2:
        """Return the server's endpoints."""

    def all_services(self) -> list[dict[str, Any]]:
        """Return FirecREST's services: `service`, `status`, `description`.

        v2 is one program: what its health checks look at is told instead, over all systems.
        """
        server = self.server()
        if isinstance(server, ServerV1):
            return server.plain_services()
        return shapes.services(server.systems())

    def service(self, service_name: str) -> dict[str, Any]:
        """Return one element of `all_services`. Raises ENOENT on v2 for an unknown name."""
        server = self.server()
        if isinstance(server, ServerV1):
            return server.plain_service(service_name)
        for found in self.all_services():
            if found["service"] == service_name:
                return found
        raise refusal(errno.ENOENT, f"the server has no service {service_name}")

    def all_systems(self) -> list[dict[str, Any]]:
        """Return the systems: `system`, `status`, `description`; on v2 also the server's fields."""
        server = self.server()
        if isinstance(server, ServerV1):
            return server.plain_systems()
        return [shapes.system(raw) for raw in server.systems()]

    def system(self, system_name: str) -> dict[str, Any]:
        """Return one element of `all_systems`. Raises ENODEV for an unknown name."""
        server = self.server()
        if isinstance(server, ServerV1):
            return server.plain_system(system_name)
        for found in self.all_systems():
            if found["system"] == system_name.lower():
                return found
        raise refusal(errno.ENODEV, f"the server offers no system {system_name}", kind="system")

    def filesystems(self, system_name: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return the file systems by system: `name`, `path`, `status`, `description`."""
        server = self.server()
        if isinstance(server, ServerV1):
            try:
                return server.plain_filesystems(system_name)
            except FirecrestException as exc:
                if exc.transient or exc.errno in (errno.EACCES, errno.ENODEV):
                    raise
            # Servers before 1.15 have no such page.
        systems = server.systems()
        found = {str(raw.get("name")): list(map(shapes.disk, shapes.disks(raw))) for raw in systems}
        if system_name is None:
            return found
        if system_name.lower() not in found:
            text = f"the server offers no system {system_name}"
            raise refusal(errno.ENODEV, text, kind="system")
        return {system_name.lower(): found[system_name.lower()]}

    def parameters(self) -> dict[str, list[dict[str, Any]]]:
        """Return the limits and settings that scripts look up: lists of `name`, `value`, `unit`."""
        server = self.server()
        if isinstance(server, ServerV1):
            return server.parameters()
        systems = server.systems()
        limit = min((shapes.max_ops(raw) for raw in systems), default=5 * 1024 * 1024)
        disks = [{"system": raw["name"], "mounted": shapes.mounted(raw)} for raw in systems]
        return {
            "utilities": [
                {"name": "UTILITIES_MAX_FILE_SIZE", "unit": "MB", "value": f"{limit / 2**20:.17g}"}
            ],
            "storage": [{"name": "FILESYSTEMS", "unit": "", "value": disks}],
        }

    def whoami(self, system_name: str | None = None) -> str | None:
        """Return the user's name on the system; without one, what the token says, or None."""
        if system_name is None:
            return user_of(bearer_of(self.session.tokens))
        return str(pick(self.server().userinfo(system_name).get("user"), "name", ""))

    def groups(self, system_name: str) -> dict[str, Any]:
        """Return `user`, `group` and `groups`, each with `id` and `name`."""
        found = self.server().userinfo(system_name)
        return {key: found.get(key) for key in ("user", "group", "groups")}

    def userinfo(self, system_name: str) -> dict[str, Any]:
        """Return what `groups` does and the user's `accounts`."""
        return self.server().userinfo(system_name)

    def nodes(self, system_name: str, nodes: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the nodes, all or those named."""
        server = self.server()
        if isinstance(server, ServerV1):
            return server.plain_described(system_name, "nodes", nodes)
        found = [shapes.renamed(raw, shapes.NODE) for raw in server.nodes(system_name)]
        return shapes.only(found, "NodeName", nodes)

    def partitions(
        self, system_name: str, partitions: Iterable[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the partitions, all or those named."""
        server = self.server()
        if isinstance(server, ServerV1):
            return server.plain_described(system_name, "partitions", partitions)
        found = [shapes.renamed(raw, shapes.PARTITION) for raw in server.partitions(system_name)]
        return shapes.only(found, "PartitionName", partitions)

    def reservations(
        self, system_name: str, reservations: Iterable[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the reservations, all or those named."""
        server = self.server()
        if isinstance(server, ServerV1):
            return server.plain_described(system_name, "reservations", reservations)
        raw = server.reservations(system_name)
        found = [shapes.renamed(item, shapes.RESERVATION) for item in raw]
        return shapes.only(found, "ReservationName", reservations)

    # -- advance reservations -----------------------------------------------------------------

    def all_reservations(self, system_name: str) -> list[dict[str, Any]]:
        """Return the advance reservations. ENOSYS where the site lacks v1's old service for them.

        v2 never has it (EOPNOTSUPP): see `reservations`. So for the three that follow.
        """
        return self._old_service().advance_reservations(system_name)

    def create_reservation(
        self,
        system_name: str,
        reservation: str,
        account: str,
        number_of_nodes: str,
        node_type: str,
        start_time: str,
        end_time: str,
    ) -> None:
        """Reserve nodes for an account; times as `YYYY-MM-DDTHH:MM:SS` of the cluster."""
        fields = _reservation(account, number_of_nodes, node_type, start_time, end_time)
        self._old_service().change_reservation("POST", system_name, reservation, fields)

    def update_reservation(
        self,
        system_name: str,
        reservation: str,
        account: str,
        number_of_nodes: str,
        node_type: str,
        start_time: str,
        end_time: str,
    ) -> None:
        """Change a reservation."""
        fields = _reservation(account, number_of_nodes, node_type, start_time, end_time)
        self._old_service().change_reservation("PUT", system_name, reservation, fields)

    def delete_reservation(self, system_name: str, reservation: str) -> None:
        """Remove a reservation."""
        self._old_service().change_reservation("DELETE", system_name, reservation, {})

    def _old_service(self) -> ServerV1:
        server = self.server()
        if isinstance(server, ServerV1):
            return server
        raise refusal(errno.EOPNOTSUPP, "FirecREST v2 has no advance reservations")


def _reservation(account: str, nodes: str, kind: str, start: str, end: str) -> dict[str, str]:
    return {
        "account": account,
        "numberOfNodes": str(nodes),
        "nodeType": kind,
        "starttime": start,
        "endtime": end,
    }
