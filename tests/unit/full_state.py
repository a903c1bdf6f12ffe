"""A program: what can be had of what a mount left on a disk that somebody else has filled.

    unshare -m python -m tests.unit.full_state DIRECTORY

It mounts a small tmpfs in DIRECTORY, in the mount namespace that it must have of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from firecrestfs.cli import main as firecrestfs

from ..fs.drivers import VfsDriver, build_in_process
from ..harness import EmulatorThreads
from .full_disk import fill


def run(*command: str) -> str:
    """Return what `firecrestfs` says, which must have done all that it was told."""
    done = CliRunner().invoke(firecrestfs, [*command])
    assert done.exit_code == 0, f"{command}: {done.output}"
    return done.output


def main() -> None:
    """Raise AssertionError where something isn't as it should be."""
    top = Path(sys.argv[1])
    home, out = top / "home", top / "out"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "none", str(home)], check=True)
    with EmulatorThreads(top / "clusters") as server:
        mount = build_in_process(server, home, write_back=1000.0)
        info = server.info["systems"][0]
        fs = VfsDriver(mount).at(f"/{info['name']}{info['home']}")
        for name in ("f", "g"):
            fs.write_file(name, b"precious")
        mount.stop()
        mount.journal.close()
    [state] = [each.parent for each in home.rglob("journal.sqlite")]
    fill(home / "filler")
    where = ("--state-dir", str(state))
    assert "2 files pending" in run("status", *where)
    run("export", "--to", str(out), *where)
    copies = [each.read_bytes() for each in out.rglob("*") if each.is_file()]
    assert copies == [b"precious"] * 2
    run("discard", f"{info['name']}:{info['home']}/g", "--yes", *where)
    assert "1 file pending" in run("status", *where)
    print("all is well")


if __name__ == "__main__":
    main()
