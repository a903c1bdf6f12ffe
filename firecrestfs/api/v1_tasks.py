"""Tasks: how FirecREST v1 answers what takes longer, and how long anybody waits for that.

A request that makes a task returns an id; the outcome is in the task, which may also stay as it
is for ever (its service was restarted). Lists of tasks hold certificates of transfers: they are
never logged, and never part of an error.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import FirecrestException
from ..model import Response
from .fault_v1 import fault_v1, of_words
from .faults import NotFound, refusal
from .session import Answer, Request
from .v1_http import Sender, odd, value_of

#: Seconds between two looks: the first, and the most, to which it grows by half at a time.
FIRST_PAUSE, _LONGEST_PAUSE = 0.15, 2.0


class Tasks(Sender):
    """Waits for tasks."""

    def _outcome(self, answer: Answer, *, mutating: bool, path: str | None = None) -> Any:
        """Return the result of the one task that *answer* tells of. Raises what `_settled` does."""
        (found,) = self._outcomes([answer])
        return self._settled(found, mutating=mutating, path=path)

    def _outcomes(
        self, answers: Sequence[Answer], *, pause: float = FIRST_PAUSE, growth: float = 1.5
    ) -> list[dict[str, Any]]:
        """Return the ended tasks that *answers* tell of, in their order, all polled together.

        *pause* is the first between two looks, of which each next is *growth* times as long.
        Raises ETIMEDOUT at the session's deadline, `ambiguous` where one of them changes something.
        """
        wanted = [str(value_of(answer, "task_id")) for answer in answers]
        mutating = any(answer.request.mutating for answer in answers)
        call = self._session.patience()
        while True:
            tasks = self._tasks(wanted)
            if all(_has_ended(tasks.get(task)) for task in wanted):
                return [tasks[task] for task in wanted]
            try:
                call.sleep(pause)
            except FirecrestException as exc:
                exc.ambiguous = mutating
                raise
            pause = min(pause * growth, _LONGEST_PAUSE)

    def _tasks(self, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
        if len(wanted) == 1:
            # The form for one task outlives the list's entry, and holds no certificate.
            return {wanted[0]: self._task(wanted[0])}
        found = value_of(self._look("/tasks", "/tasks", {"tasks": ",".join(wanted)}), "tasks")
        if not isinstance(found, Mapping):
            raise refusal(errno.EBADMSG, "the list of tasks has an unexpected form")
        return {task: found.get(task) or self._task(task) for task in wanted}

    def _task(self, task_id: str) -> dict[str, Any]:
        answer = self._look(f"/tasks/{task_id}", "/tasks/{id}", {})
        found = value_of(answer, "task")
        if not isinstance(found, dict):
            raise odd(answer)
        return found

    def _look(self, endpoint: str, template: str, params: Mapping[str, str]) -> Answer:
        request = Request(
            "GET",
            endpoint,
            template,
            params,
            idempotent=True,
            mutating=False,
            faults=fault_v1,
        )
        try:
            return self._session.request(request)
        except NotFound as exc:
            raise _forgotten(exc.responses) from None

    def _settled(self, task: dict[str, Any], *, mutating: bool, path: str | None = None) -> Any:
        """Return the `data` of an ended task. Raises what its words mean where it failed."""
        status = str(task.get("status", ""))
        data = task.get("data")
        if status == "200":
            return data
        words = data if isinstance(data, str) and data else str(task.get("description", ""))
        response = Response(int(status), {}, json.dumps({"error": words}), "GET", "/tasks/{id}")
        if not status.startswith("4"):
            raise _forgotten((response,))
        verdict = of_words(words, path)
        raise refusal(
            verdict.code,
            verdict.text,
            path,
            responses=(response,),
            transient=verdict.transient,
            ambiguous=mutating and verdict.begun,
            kind=verdict.kind,
        )


def _has_ended(task: Mapping[str, Any] | None) -> bool:
    status = str((task or {}).get("status", ""))
    return status.isdecimal() and int(status) >= 200


def _forgotten(responses: tuple[Response, ...]) -> FirecrestException:
    text = "the server has lost the task that carries the answer; what it did is unknown"
    return refusal(errno.EIO, text, responses=responses, transient=True, ambiguous=True)
