"""Fixtures for tests on a mount.

`fs` is a driver (without a kernel, or on a real mount) bound to a directory of the test's own,
`there` the same directory on the cluster, where other clients make their changes, `server` the
emulator. After each test nothing may be left behind: see `_check_what_is_left`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.fs.drivers", "tests.harness", "tests.tutorial")

from .fs.drivers import Driver  # noqa: E402
from .fs.sites import WITH_KERNEL, WITHOUT_KERNEL, Site, Sites, is_not_for_v1  # noqa: E402
from .harness import Server, local_home, wait_for  # noqa: E402

logging.getLogger("cheroot").setLevel(logging.ERROR)

#: Seconds a test may use a mount before the mount's process is killed.
TEST_S = 45.0
_numbers = itertools.count(1)
_PASSED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Let what tests start hear of Ctrl-C, which is ignored where all runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let fixtures know whether the test has passed; let the report pass between processes."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    # A worker can't send a name that is no UTF-8, which logs and failures may tell.
    report.sections = [(name, _plain(text)) for name, text in report.sections]
    if report.failed:
        report.longrepr = _plain(str(report.longrepr))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell why tests were run a second time: a rare failure is a failure."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"run again: {report.nodeid}", sep="_")
        terminalreporter.line(str(report.longrepr)[-3000:])


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the bodies that aren't for API v1: `NOT_ON_V1` says why."""
    left_out = [item for item in items if is_not_for_v1(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def umask() -> Iterator[None]:
    """Make modes the same wherever the tests run."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory, umask: None) -> Iterator[Sites]:
    """All servers and mounts that tests share."""
    sites = Sites(tmp_path_factory.mktemp("sites"))
    yield sites
    sites.close()


@pytest.fixture(scope="session", params=[*WITHOUT_KERNEL, *WITH_KERNEL])
def kind(request: pytest.FixtureRequest) -> str:
    """The driver: vfs, v1, mfusepy or fuse."""
    return str(request.param)


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """The mount with default settings."""
    return sites.site(kind)


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    """The emulator; its knobs and faults are put back."""
    before = site.server.settings()
    site.server.alarms()
    yield site.server
    site.server.set(**before)
    site.server.faults([])


@pytest.fixture
def there(server: Server, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The test's directory on the cluster."""
    name = re.sub(r"[^\w-]+", "-", request.node.name.partition("[")[0])[:80]
    path = local_home(server) / f"{name}-{next(_numbers)}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def fs(site: Site, server: Server, there: Path, request: pytest.FixtureRequest) -> Iterator[Driver]:
    """The driver, in the test's directory; nothing below that is known, all above is."""
    before = server.settings()
    with site.watching(TEST_S):
        home = f"/cluster{server.info['systems'][0]['home']}"
        driver = site.driver.at(f"{home}/{there.name}")
        driver.refresh(home)
        # By its own name: on the way to others the kernel wouldn't ask for it within a second.
        driver.stat(home)
        driver.stat()
        server.requests(reset=True)
        yield driver
        server.set(**before)
        server.faults([])
        driver.close_all()
        failed = driver.sync()
        if request.node.stash.get(_PASSED, False):
            assert failed == {}
            _check_what_is_left(driver, there)
        else:
            _give_up(driver, failed)
    assert server.alarms() == []


def _check_what_is_left(fs: Driver, there: Path) -> None:
    """Archives and temporary names of ours are gone, and the mount shows what the cluster has."""
    fs.refresh()
    for directory, directories, files in os.walk(there):
        names = sorted([*directories, *files])
        ours = [name for name in names if name.startswith((".fcfs-", ".fuse_hidden"))]
        assert ours == [], f"left behind on the cluster in {directory}"
        where = os.path.relpath(directory, there).removeprefix(".")
        if os.stat(directory).st_mode & 0o500 == 0o500 and "'" not in where:
            # The kernel believes for a second that a name is what it was.
            wait_for(functools.partial(_shows, fs, where, names), 2)
            assert _shown(fs, where) == names


def _shows(fs: Driver, directory: str, names: list[str]) -> bool:
    try:
        return _shown(fs, directory) == names
    except OSError:
        return False


def _shown(fs: Driver, directory: str) -> list[str]:
    return sorted(
        name for name in fs.listdir(directory) if not name.startswith(("._", ".DS_Store"))
    )


def _give_up(fs: Driver, failed: dict[str, str]) -> None:
    """Drop what a failed test could not store, so that it doesn't trouble the next one."""
    for path in failed:
        with contextlib.suppress(OSError):
            fs.unlink(path)
