"""Fixtures: the server that the environment names, a directory on it, a mount of it."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.live.place")

from firecrestfs.config import default_config_file, load, require_server  # noqa: E402
from firecrestfs.mount import make_client  # noqa: E402

from ..harness import Mounted  # noqa: E402
from .place import Place, Shell  # noqa: E402

if os.environ.get("FIRECREST_LIVE") != "1":
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def top() -> Iterator[Place]:
    """A directory of this run's own on the cluster; removed at the end."""
    missing = [
        name for name in ("FIRECREST_SYSTEM", "FIRECREST_LIVE_DIR") if name not in os.environ
    ]
    if missing:
        pytest.fail(f"set {' and '.join(missing)}: see tests/live/__init__.py")
    config = load({})
    require_server(config)
    parent = Place(
        make_client(config), os.environ["FIRECREST_SYSTEM"], os.environ["FIRECREST_LIVE_DIR"]
    )
    place = parent.below(f"firecrestfs-live-{uuid.uuid4().hex[:8]}")
    place.mkdir()
    yield place
    place.clear()


@pytest.fixture
def place(top: Place, request: pytest.FixtureRequest) -> Place:
    """A directory of the test's own on the cluster."""
    name = re.sub(r"[^\w-]+", "-", request.node.name).strip("-")[:60]
    place = top.below(f"{name}-{uuid.uuid4().hex[:4]}")
    place.mkdir()
    return place


class _Named:
    """Takes the place of an emulator: the server is named by the environment."""

    info: dict[str, object] = {}


def live_mount(home: Path) -> Mounted:
    """Return a mount of the server, all its state under *home*."""
    ours = ("FIRECREST", "AUTH_TOKEN_URL")
    env = {name: value for name, value in os.environ.items() if name.startswith(ours)}
    env["XDG_CONFIG_HOME"] = str(default_config_file().parent.parent)
    return Mounted(_Named(), home, env=env)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def mounted(top: Place, umask: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A mount that the module's tests share."""
    with live_mount(tmp_path_factory.mktemp("live")) as mount:
        yield mount


@pytest.fixture
def shell(mounted: Mounted, place: Place) -> Iterator[Shell]:
    """Programs in the test's directory of the mount."""
    mounted.ensure()
    shell = Shell(mounted, place)
    with mounted.watching(100):
        # The directory was made a moment ago, by another client as far as the mount knows.
        shell.refresh()
        yield shell
        with contextlib.suppress(AssertionError):
            shell.sync()
