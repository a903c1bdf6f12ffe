"""Work that goes on behind an answer, under a task."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..site import Site
from .remote import Failed, Session
from .tasks import TaskBoard

_log = logging.getLogger(__name__)


class Background:
    """Starts such work. What the services of one site have in common beside the site itself."""

    def __init__(self, site: Site, board: TaskBoard) -> None:
        self.site = site
        self.board = board

    def compute(self, session: Session, work: Callable[[str], object]) -> str:
        """Make a task that ends with what *work* returns, or with the text of its failure."""
        task_id = self.board.create(session.username, "compute", session.cluster.name)
        self.start(task_id, lambda: self._finish(task_id, work))
        return task_id

    def _finish(self, task_id: str, work: Callable[[str], object]) -> None:
        try:
            result = work(task_id)
        except Failed as exc:
            text = exc.text
            if "OPENSSH" in text:
                text = "User does not have permissions to access machine"
            self.board.update(task_id, "400", text)
        else:
            self.board.update(task_id, "200", result)

    def start(self, task_id: str, work: Callable[[], None]) -> None:
        """Run *work* in a thread, which has the powers of the calling one."""

        def run() -> None:
            try:
                work()
            except Exception as exc:
                if not self.site.closed.is_set():
                    _log.error("task %s", task_id, exc_info=exc)

        threading.Thread(target=run, name=f"task-{task_id[:8]}", daemon=True).start()
