"""The part of the typed client that has files staged, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .client import Firecrest
from .external import ExternalDownload
from .objects import ObjectStore
from .tickets import Ticket, end_order, order_ticket, ticket_of
from .transferjobs import checked_for_job


class StagingCalls:
    """Files of any size, by way of the object store."""

    _client: Firecrest

    @property
    def objects(self) -> ObjectStore:
        """The object store, which knows links only."""
        return self._client.objects

    def stage_out(self, system: str, path: str, *, account: str | None = None) -> ExternalDownload:
        """Order *path* to be staged; what comes back is looked at by the caller, and tidied up."""
        return self._client.external_download(system, path, account=account, eager=True)

    def order_upload(
        self, system: str, path: str, size: int, *, account: str | None = None
    ) -> Ticket:
        """Announce an upload of *size* bytes (not 0) to *path*, the whole path of its target.

        EINVAL for paths that FirecREST's scripts alter.
        """
        clean = checked_for_job(path)
        return order_ticket(self._client.server(), self.objects, system, clean, size, account)

    def ticket(self, path: str, values: Mapping[str, Any]) -> Ticket:
        """Take up an upload to *path* that was ordered before."""
        return ticket_of(self._client.server(), self.objects, path, values)

    def end_order(self, system: str, path: str) -> bool:
        """End the upload to *path*, the target that was given, of whose order nobody has heard.

        Tell whether there was one: the scheduler may not know it yet.
        """
        return end_order(self._client.server(), system, path)
