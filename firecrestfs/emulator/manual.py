"""What `serve --help` says of the settings and of the faults that can be had."""

from __future__ import annotations

from .faults import KINDS
from .knobs import table

_FAULTS = """
Faults for --fault KIND[,KEY=VALUE,…] (or a JSON object with these keys):

{kinds}

  Which requests: match=GLOB over the endpoint (ops/upload, jobs/*, utilities/ls, storage/*, token,
  and of the object store store/get, store/part, …), method=, path=GLOB over the path in the query.
  How often: count=N (1; -1: always), after=N let pass first, every=N, probability=0…1, and by
  schedule begin=S and end=S, seconds since the start.

  --fault status,match=ops/ls,status=429,headers.Retry-After=2,count=3
  --fault stall,match=ops/download,seconds=30,probability=0.1,count=-1
  --fault drop,begin=60,end=90,count=-1

Both can be changed while it runs: POST {{NAME: VALUE}} to URL/_emulator/set, a list of rules to
URL/_emulator/faults; GET URL/_emulator/requests shows what was asked, and by which endpoint names.
"""


def settings_help() -> str:
    """Return the table of settings, a line each."""
    rows = (f"  {row.name:20} {_default(row.default):14} {row.help}" for row in table())
    return "Settings for --set NAME=VALUE, each with its default:\n\n" + "\n".join(rows)


def faults_help() -> str:
    """Return what faults there are and how a rule is written."""
    kinds = (f"  {name:14} {' '.join(text.split())}" for name, text in KINDS.items())
    return _FAULTS.strip("\n").format(kinds="\n".join(kinds))


def _default(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or "''"
