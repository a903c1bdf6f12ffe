"""The process that serves a mount: fork, signals, drain, unmount.

Fork first, before any thread, lock or session. FUSE runs in a second thread; the main thread owns
the signals, because a Python handler doesn't run while `FUSE()` holds the main thread.
"""

from __future__ import annotations

import errno
import logging
import logging.handlers
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from . import binding as fuse_binding
from . import faultpoints, kept, mountpoints
from .config import Config, require_server
from .errors import os_error
from .mount import build
from .running import Mount

log = logging.getLogger(__name__)

_MOUNT_S = 30.0
_TICK_S = 5.0
#: A clock that ran this much longer than the other (seconds): the machine slept.
_SLEPT_S = 30.0
#: So long a thread that computes keeps others from running (seconds; Python's own: 0.005).
_SWITCH_S = 0.0005
_READY = b"ready"


def mount(config: Config, mountpoint: str, *, foreground: bool) -> int:
    """Mount and return when it answers; with *foreground*, when it has ended. An exit status.

    Raises `OSError` with the reason where nothing could be mounted.
    """
    mountpoint = mountpoints.resolved(mountpoint)
    require_server(config)
    mountpoints.require_fuse()
    mountpoints.require_fit(mountpoint)
    log_path = config.local_state_dir / "log"
    config.local_state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if foreground:
        _log_to_stderr()
        return serve(config, mountpoint, None)
    return _mount_in_background(config, mountpoint, log_path)


def serve(
    config: Config,
    mountpoint: str,
    log_path: Path | None,
    ready: Callable[[str], None] = lambda text: None,
) -> int:
    """Serve a mount from this process's main thread until it is unmounted or told to end.

    *ready* is called once the mount answers, with what its user shall know. Returns 0 where
    everything has landed, else 1.
    """
    faultpoints.arm(config.fault)
    # Who waits for a call isn't to wait for a thread that packs what was written before.
    sys.setswitchinterval(_SWITCH_S)
    stop = _StopSignals()
    _raise_file_limit()
    lock = _take_lock(config.local_state_dir, mountpoint)
    binding = fuse_binding.load_binding(config.fuse_binding)
    mount = build(config, binding, mountpoint, log_path)
    os.chdir("/")
    settings = fuse_binding.fuse_settings(binding, _fsname(config.url))
    if config.allow_other:
        settings["allow_other"] = True
    fuse = _FuseThread(
        lambda: fuse_binding.run_fuse(binding, mount.operations, mountpoint, settings)
    )
    # Who asks for everything before it has begun waits for recovery, too.
    mount.recovering = True
    fuse.start()
    try:
        _wait_mounted(mountpoint, fuse)
        _write_down(config, mountpoint, log_path)
    except BaseException:
        # What nobody knows of could not be unmounted by its name, and would be dead.
        _unmount(mountpoint, fuse)
        raise
    log.info(
        "%s is mounted at %s by %s", config.url, mountpoint, fuse_binding.describe_binding(binding)
    )
    away = mount.client.circuit.unreachable()
    ready(f"mounted; it goes on by itself: {away.reason}" if away else "")
    mount.begin_recovery()
    try:
        _watch(mount, fuse, stop)
        return _end(config, mount, mountpoint, fuse, stop)
    finally:
        mountpoints.remove_record(mountpoint)
        os.close(lock)


class _StopSignals:
    """SIGTERM and SIGINT: the first asks to end, the second to end now, as SIGUSR1 does."""

    def __init__(self) -> None:
        self.count = 0
        self.first = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._received)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.count += 2 if number == signal.SIGUSR1 else 1
        self.first.set()

    def now(self) -> bool:
        """Tell whether waiting is over."""
        return self.count > 1


class _FuseThread(threading.Thread):
    """Runs FUSE; keeps what it failed with."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__(name="fuse", daemon=True)
        self._run_fuse = run
        self.error: BaseException | None = None

    def run(self) -> None:
        """Serve until unmounted."""
        try:
            self._run_fuse()
        except BaseException as exc:
            self.error = exc


def _wait_mounted(mountpoint: str, fuse: _FuseThread) -> None:
    end = time.monotonic() + _MOUNT_S
    while mountpoints.mounted_types().get(mountpoint) != mountpoints.FUSE_TYPE:
        if not fuse.is_alive():
            raise fuse.error or os_error(errno.EIO, mountpoint, "FUSE ended at once")
        if time.monotonic() > end:
            raise os_error(errno.ETIMEDOUT, mountpoint, "FUSE did not mount in time")
        time.sleep(0.01)


def _write_down(config: Config, mountpoint: str, log_path: Path | None) -> None:
    """Let commands, and who comes after us, know of the mount."""
    directory = str(config.local_state_dir)
    mountpoints.write_record(
        mountpoints.MountRecord(mountpoint, os.getpid(), config.url, directory, str(log_path or ""))
    )
    kept.StateDirectory(config.local_state_dir).belongs_to(
        kept.Origin(config.url, mountpoint, os.getpid())
    )
    (config.local_state_dir / "last-exit.json").unlink(missing_ok=True)


def _watch(mount: Mount, fuse: _FuseThread, stop: _StopSignals) -> None:
    """Wait for the end; notice when the machine has slept, and look after what waits."""
    asleep = _time_asleep()
    while fuse.is_alive() and not stop.first.wait(_TICK_S):
        now = _time_asleep()
        if now - asleep > _SLEPT_S:
            log.info("this machine slept for %.0f s: connecting anew", now - asleep)
            mount.woke_up()
        asleep = now
        mount.look_after()


def _time_asleep() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _end(
    config: Config, mount: Mount, mountpoint: str, fuse: _FuseThread, stop: _StopSignals
) -> int:
    """Drain, unmount, take late releases, drain again, and write down how it ended."""
    mount.operations.draining = True
    marks = mount.marks()
    failed = {} if stop.now() else mount.drain(config.drain_timeout, stop.now)
    _unmount(mountpoint, fuse)
    # What was closed at the last moment; what could not be stored so far won't be now.
    failed = {} if stop.now() else mount.drain(1.0 if failed else 10.0, stop.now)
    failed |= {row["path"]: row["error"] or "not yet stored" for row in mount.pending()}
    refused = mount.refused(marks)
    mount.stop()
    for path, reason in (failed | refused).items():
        log.error("not stored: %s: %s", path, reason)
    _write_last_exit(config, mountpoint, failed, refused)
    return 1 if failed or refused else 0


def _unmount(mountpoint: str, fuse: _FuseThread) -> None:
    if fuse.is_alive():
        try:
            mountpoints.unmount(mountpoint)
        except OSError as exc:
            log.warning("%s is in use (%s): taken out of sight", mountpoint, exc.strerror)
            try:
                mountpoints.unmount(mountpoint, lazy=True)
            except OSError as worse:
                log.error("%s can't be unmounted: %s", mountpoint, worse.strerror)
        fuse.join(10.0)


def _write_last_exit(
    config: Config, mountpoint: str, failed: dict[str, str], refused: dict[str, str]
) -> None:
    report: dict[str, Any] = {
        "mountpoint": mountpoint,
        "pid": os.getpid(),
        "ended": time.time(),
        "failed": failed,
        "refused": refused,
    }
    kept.write_json(config.local_state_dir / "last-exit.json", report)


# -- in the background -----------------------------------------------------------------------------


def _mount_in_background(config: Config, mountpoint: str, log_path: Path) -> int:
    start = log_path.stat().st_size if log_path.exists() else 0
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_daemon(config, mountpoint, log_path, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    if said.startswith(_READY):
        sys.stderr.write(said.removeprefix(_READY).decode("utf-8", "replace"))
        return 0
    text = said.decode("utf-8", "replace") or "the mount's process ended without a word"
    raise os_error(errno.EIO, mountpoint, text + _new_lines(log_path, start))


def _be_daemon(config: Config, mountpoint: str, log_path: Path, writer: int) -> None:
    """Serve in the forked child. Never returns."""
    status = 1
    try:
        os.setsid()
        _log_to_file(log_path)

        def ready(text: str) -> None:
            os.write(writer, _READY)
            if text:
                _say(writer, f"{text}\n")
            os.close(writer)

        status = serve(config, mountpoint, log_path, ready)
    except OSError as exc:
        log.error("%s", exc)
        _say(writer, str(exc.strerror or exc))
    except BaseException as exc:
        log.exception("internal error")
        _say(writer, f"internal error: {exc!r}")
    finally:
        logging.shutdown()
        os._exit(status)


def _say(writer: int, text: str) -> None:
    try:
        os.write(writer, text.encode("utf-8", "replace"))
    except OSError:
        log.debug("nobody listens any more")


def _new_lines(log_path: Path, start: int) -> str:
    """Return the last lines of what was logged since *start*, to be shown below a reason."""
    try:
        with log_path.open("rb") as file:
            file.seek(start)
            lines = file.read().decode("utf-8", "replace").splitlines()[-5:]
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in [f"(log: {log_path})", *lines])


def _log_to_file(log_path: Path) -> None:
    """Send logging, and what libraries write to stdout and stderr, into the log file."""
    handler = logging.handlers.RotatingFileHandler(log_path, maxBytes=10 << 20, backupCount=2)
    os.chmod(log_path, 0o600)
    _log_to(handler)
    raw = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(raw, 1)
    os.dup2(raw, 2)


def _log_to_stderr() -> None:
    _log_to(logging.StreamHandler())


def _log_to(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("firecrestfs").setLevel(logging.INFO)


def _take_lock(state_dir: Path, mountpoint: str) -> int:
    """Make *state_dir* this process's own; return the descriptor that holds the lock.

    Raises EBUSY with the pid and mountpoint of the process that has it.
    """
    try:
        return kept.take_lock(state_dir, f"process {os.getpid()} at {mountpoint}")
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        raise os_error(
            errno.EBUSY,
            mountpoint,
            f"this server is mounted already, its state is {exc.strerror}; to mount it twice, give "
            "the second mount a --state-dir and a --cache-dir of its own",
        ) from None


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))


def _fsname(url: str) -> str:
    # Commas separate options of FUSE.
    server = urlsplit(url).netloc.rpartition("@")[2]
    return server.replace(",", "") or "firecrest"
