"""The demo: an embedded FirecREST with populated clusters, mounted, until Ctrl-C.

The server and the mount are processes of their own, so that neither can hang the other.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import mountpoints
from .errors import os_error

_START_S = 30.0


def serve(
    root: str | None,
    port: int,
    api: str,
    latency: float,
    settings: tuple[str, ...],
    faults: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the embedded FirecREST until SIGTERM. Raises EINVAL for a setting that makes no sense."""
    emulator = _emulator()
    pairs = {}
    for each in settings:
        name, equals, value = each.partition("=")
        if not equals:
            raise os_error(errno.EINVAL, None, f"--set wants NAME=VALUE, not {each!r}")
        pairs[name] = value
    try:
        emulator.serve(
            root=root,
            port=port,
            api=api,
            latency=latency,
            settings=pairs,
            faults=faults,
            json=as_json,
        )
    except ValueError as exc:
        raise os_error(errno.EINVAL, None, str(exc)) from None


def knobs_help() -> list[str]:
    """Return what there is for `serve --set` and `serve --fault`, in paragraphs."""
    emulator = _emulator()
    text = f"{emulator.settings_help()}\n\n{emulator.faults_help()}"
    return text.split("\n\n")


def _emulator() -> Any:
    try:
        from . import emulator
    except ImportError as exc:
        raise os_error(
            errno.ENOPKG,
            None,
            f"the embedded FirecREST needs its extra ({exc}): pip install 'firecrestfs[demo]'",
        ) from None
    return emulator


def run(mountpoint: str | None) -> int:
    """Start server and mount, say where and what to try, end both on Ctrl-C. An exit status."""
    mountpoints.require_fuse()
    _emulator()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="firecrestfs-demo-"))
    where = Path(mountpoints.resolved(mountpoint)) if mountpoint else home / "hpc"
    made = not where.exists()
    server: subprocess.Popen[str] | None = None
    try:
        where.mkdir(parents=True, exist_ok=True)
        server = _start_server(home / "clusters")
        info = _read_info(server)
        environment = _environment(info, home)
        mounted = _firecrestfs(["mount", str(where)], environment).returncode == 0
        if mounted:
            print(_welcome(where, info), flush=True)
            _wait(server, where)
        return 0 if mounted else 2
    except KeyboardInterrupt:
        return 0
    finally:
        _clean_up(where, made, server, home)


def _start_server(root: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "firecrestfs.emulator",
        "--root",
        str(root),
        "--json",
        "--demo",
    ]
    # A session of its own: Ctrl-C is for us, who ends things in the right order.
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def _read_info(server: subprocess.Popen[str]) -> dict[str, Any]:
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        raise os_error(errno.EIO, None, "the embedded FirecREST did not start; see above")
    found: dict[str, Any] = json.loads(line)
    return found


def _environment(info: dict[str, Any], home: Path) -> dict[str, str]:
    return os.environ | {
        "FIRECREST_URL": info["url"],
        "FIRECREST_CLIENT_ID": info["client_id"],
        "FIRECREST_CLIENT_SECRET": info["client_secret"],
        "AUTH_TOKEN_URL": info["token_url"],
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }


def _firecrestfs(
    arguments: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "firecrestfs", *arguments],
        env=environment,
        timeout=120,
        start_new_session=True,
        check=False,
    )


def _wait(server: subprocess.Popen[str], where: Path) -> None:
    """Return when there is nothing to play with any more: it was unmounted, or the server died."""
    while server.poll() is None:
        if mountpoints.mounted_types().get(str(where)) != mountpoints.FUSE_TYPE:
            print("it is no longer mounted: ending", flush=True)
            return
        time.sleep(0.5)
    print("the embedded FirecREST has ended", flush=True)


def _clean_up(where: Path, made: bool, server: subprocess.Popen[str] | None, home: Path) -> None:
    """Unmount, end the server, remove everything that was made. Ctrl-C can't part us from it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if mountpoints.mounted_types().get(str(where)) == mountpoints.FUSE_TYPE:
        print("unmounting …", flush=True)
        environment = os.environ | {"XDG_STATE_HOME": str(home / "state")}
        _firecrestfs(["umount", str(where), "--timeout", "10"], environment)
    if server is not None:
        server.terminate()
        server.wait(30)
    if made and where.is_dir() and not os.path.ismount(where):
        where.rmdir()
    if not os.path.ismount(where):
        shutil.rmtree(home, ignore_errors=True)


def _welcome(where: Path, info: dict[str, Any]) -> str:
    system = info["systems"][0]
    base = where / system["name"]
    return f"""
An emulated centre is mounted at  {where}
(FirecREST v2 on {info["url"]}; its files are in {system["local_home"]})

Try, in another terminal:

  cd {base}/HOME/
  ls -l ; cat README.txt
  grep -rn time heat
  cat .jobs/queue
  cp heat/submit.sh heat/.jobs/ && cat heat/.jobs/submit.sh.jobid
  tail -f ../../SCRATCH/runs/live/solver.log
  echo "a note" > note.txt && {_program()} sync .

Ctrl-C unmounts and leaves nothing behind.
"""


def _program() -> str:
    """Return what another terminal can call: it knows nothing of this one's environment."""
    installed = Path(sys.executable).with_name("firecrestfs")
    if shutil.which("firecrestfs") or not installed.exists():
        return "firecrestfs"
    return str(installed)
