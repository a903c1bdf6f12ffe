"""A look whether anybody is there, which costs the server next to nothing."""

from __future__ import annotations

import errno
import logging
import time
from typing import Any

from ..errors import FirecrestException
from .transport import transport_faults
from .wire import Call, making, patient_session

log = logging.getLogger("firecrestfs.api")

#: How long the look may take, in seconds.
_PROBE_S = 4.0
#: What gateways answer for a server that is gone.
_GONE = (502, 503, 504)


def is_there(url: str, host: str, *, trust_env: bool, verify: bool | str) -> bool:
    """Ask for the server's front page, without a token; any answer but a gateway's will do."""
    start = time.monotonic()
    status: object = "-"
    try:
        with (
            making(Call(_PROBE_S, what=host)),
            transport_faults(host),
            patient_session(trust_env=trust_env) as session,
            session.get(
                f"{url}/",
                auth=_no_netrc,
                timeout=(_PROBE_S, _PROBE_S),
                allow_redirects=False,
                stream=True,
                verify=verify,
            ) as got,
        ):
            status = got.status_code
            return got.status_code not in _GONE
    except FirecrestException as exc:
        status = errno.errorcode.get(exc.errno or 0, "?")
        return False
    finally:
        log.info("GET / %s %.0f ms", status, (time.monotonic() - start) * 1000)


def _no_netrc(request: Any) -> Any:
    """Authorise nothing; without this, requests would take a password from ~/.netrc."""
    return request
