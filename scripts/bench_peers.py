"""Other file systems to compare with, each against a server of its own at the same distance."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench_world import HERE, World, end, run

_START_S = 20.0
SSHD = "/usr/sbin/sshd"


class Missing(Exception):
    """A program that isn't installed; the text names its Debian package."""


class Peer:
    """A mount whose files end up in `landing` on this machine."""

    def __init__(self, mountpoint: Path, landing: Path, proxy: subprocess.Popen[str]) -> None:
        self.mountpoint = mountpoint
        self.landing = landing
        self._proxy = proxy

    def requests(self) -> int | None:
        """Return how many requests there were so far; None where that can't be told."""
        if self._proxy.stdin is None or self._proxy.stdout is None:
            return None
        self._proxy.stdin.write("\n")
        self._proxy.stdin.flush()
        return int(self._proxy.stdout.readline())


@contextmanager
def rclone(world: World, latency_ms: float) -> Iterator[Peer]:
    """Mount with `rclone mount --vfs-cache-mode writes` what `rclone serve webdav` serves."""
    if shutil.which("rclone") is None:
        raise Missing("rclone is not installed (Debian package rclone)")
    home = _home(world, "rclone")
    port = _free_port()
    with ExitStack() as stack:
        serve = ["rclone", "serve", "webdav", "--addr", f"127.0.0.1:{port}", str(home / "landing")]
        _start(stack, [*serve, "--config", str(home / "none")], home / "serve.log", port)
        proxy = _proxy(stack, "http", port, latency_ms)
        os.environ |= {
            "RCLONE_CONFIG_BENCH_TYPE": "webdav",
            "RCLONE_CONFIG_BENCH_URL": f"http://127.0.0.1:{_port_of(proxy)}",
            "RCLONE_CONFIG_BENCH_VENDOR": "other",
        }
        command = ["rclone", "mount", "bench:", str(home / "mnt"), "--vfs-cache-mode", "writes"]
        command += ["--config", str(home / "none"), "--cache-dir", str(home / "cache")]
        mount = world.start(command, home / "mnt")
        stack.callback(mount.stop)
        yield Peer(mount.mountpoint, home / "landing", proxy)


@contextmanager
def sshfs(world: World, latency_ms: float) -> Iterator[Peer]:
    """Mount with sshfs what an sshd of its own serves."""
    for program, package in (("sshfs", "sshfs"), (SSHD, "openssh-server")):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed (Debian package {package})")
    home = _home(world, "sshfs")
    port = _free_port()
    for name in ("host", "user"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)])
    (home / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {home}/host\nPidFile none\n"
        f"AuthorizedKeysFile {home}/user.pub\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with ExitStack() as stack:
        command = [SSHD, "-D", "-e", "-f", str(home / "config")]
        _start(stack, command, home / "sshd.log", port)
        proxy = _proxy(stack, "tcp", port, latency_ms)
        where = f"{getpass.getuser()}@127.0.0.1:{home / 'landing'}"
        command = ["sshfs", "-f", where, str(home / "mnt"), "-p", str(_port_of(proxy))]
        command += ["-F", "/dev/null", "-o", f"IdentityFile={home / 'user'}"]
        command += ["-o", "StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,BatchMode=yes"]
        mount = world.start(command, home / "mnt")
        stack.callback(mount.stop)
        yield Peer(mount.mountpoint, home / "landing", proxy)


def _home(world: World, name: str) -> Path:
    home = world.root / name
    (home / "landing").mkdir(parents=True)
    return home


def _start(stack: ExitStack, command: list[str], log: Path, port: int) -> None:
    """Run *command* until the stack is left; return once it serves *port*."""
    with log.open("wb") as output:
        process: subprocess.Popen[Any] = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    stack.callback(end, process)
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{command[0]} does not serve: {log.read_text()[-500:]}")


def _proxy(stack: ExitStack, kind: str, port: int, latency_ms: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "bench_delay.py"), kind, str(port), str(latency_ms)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if kind == "http" else None,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stack.callback(end, process)
    return process


def _port_of(proxy: subprocess.Popen[str]) -> int:
    assert proxy.stdout is not None
    return int(proxy.stdout.readline())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
