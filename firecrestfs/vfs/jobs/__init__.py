"""`.jobs/`: the scheduler as a directory.

`filesystem` says what is where, `scripts` takes what is dropped, `submissions` carries it to the
scheduler exactly once, `table` asks what became of it, `directories` shows that.
"""

from .filesystem import JobsFilesystem, JobsParts
from .views import queue_table

__all__ = ["JobsFilesystem", "JobsParts", "queue_table"]
