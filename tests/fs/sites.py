"""Emulators and mounts that tests share: one server per driver, one mount per settings."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..harness import SYSTEMS, EmulatorProcess, EmulatorThreads, Mounted, Server
from .drivers import Driver, KernelDriver, VfsDriver, build_in_process

#: The drivers: no kernel, on API v2 and on v1; mfusepy on libfuse 3; fusepy on libfuse 2.
WITHOUT_KERNEL = [pytest.param("vfs"), pytest.param("v1")]
WITH_KERNEL = [
    pytest.param("mfusepy", marks=pytest.mark.fuse),
    pytest.param("fuse", marks=pytest.mark.fuse),
]


@dataclass
class Site:
    """A server with a mount of it; `mounted` is None where no kernel knows of the mount."""

    server: Server
    driver: Driver
    mounted: Mounted | None = None

    def watching(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Make whatever hangs in the mount fail after *seconds*."""
        if self.mounted is None:
            return contextlib.nullcontext()
        self.mounted.ensure()
        return self.mounted.watching(seconds)


class Sites:
    """Makes servers and mounts at their first use and ends them all together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self._servers: dict[str, Server] = {}
        self._sites: dict[tuple[str, tuple[tuple[str, Any], ...]], Site] = {}

    def close(self) -> None:
        """End everything."""
        self._stack.close()

    def server(self, kind: str) -> Server:
        """Return the server for mounts of *kind*."""
        if kind not in self._servers:
            root = self._directory / f"clusters-{kind}"
            server: EmulatorThreads | EmulatorProcess
            if kind in ("vfs", "v1"):
                server = EmulatorThreads(root, api="v1" if kind == "v1" else "v2")
            else:
                server = EmulatorProcess(root, systems=SYSTEMS)
            self._servers[kind] = self._stack.enter_context(server)
        return self._servers[kind]

    def site(self, kind: str, **settings: Any) -> Site:
        """Return the mount of *kind* with *settings* of the configuration."""
        key = (kind, tuple(sorted(settings.items())))
        if key not in self._sites:
            home = self._directory / f"{kind}-{next(self._numbers)}"
            home.mkdir()
            self._sites[key] = self._stack.enter_context(
                _open(kind, self.server(kind), home, settings)
            )
        return self._sites[key]


@contextlib.contextmanager
def _open(kind: str, server: Server, home: Path, settings: dict[str, Any]) -> Iterator[Site]:
    if kind in ("vfs", "v1"):
        mount = build_in_process(server, home, **settings)
        try:
            yield Site(server, VfsDriver(mount))
        finally:
            mount.stop()
        return
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    options = [f"{name}={value}" for name, value in settings.items()]
    with Mounted(server, home, binding=kind, options=options) as mounted:
        yield Site(server, KernelDriver(mounted.path), mounted)


#: Bodies that aren't for API v1, by the reason. What they are about has tests of its own for v1
#: in `tests/api`.
NOT_ON_V1 = {
    "they count requests by the names of v2's endpoints": (
        "test_ls_l test_stat_of_one_file_answers_for_its_siblings test_cat_after_ls "
        "test_storing_one_file test_a_save_of_vim test_appending_again_and_again_is_stored_once "
        "test_a_script_is_submitted_once test_removing_a_script_forgets_it "
        "test_a_script_under_a_temporary_name_waits_for_its_final_one "
        "test_several_readers_cause_one_download test_empty_files "
        "test_a_save_by_way_of_a_temporary_file_is_one_upload"
    ),
    "they make v2's endpoints fail": (
        "test_a_refusal_by_the_cluster_itself test_a_refusal_by_the_scheduler_is_told "
        "test_where_linking_is_refused_nothing_is_lost "
        "test_wherever_a_rename_fails_nothing_is_lost test_a_write_during_the_store_lands_too "
        "test_a_file_removed_during_its_store_leaves_its_name_free "
        "test_a_save_during_the_store_of_what_it_replaces "
        "test_what_changes_while_a_file_is_renamed_over_another "
        "test_what_comes_to_a_name_that_a_file_is_being_renamed_to "
        "test_making_names_on_a_full_disk test_a_command_that_takes_too_long "
        "test_a_removal_that_fails_is_made_good test_a_store_whose_answer_got_lost_is_no_conflict"
    ),
    "v1 refuses paths with such characters": (
        "test_a_name_made_here test_a_name_of_the_cluster test_a_directory_of_this_name "
        "test_odd_names_beside_each_other_are_told_apart test_many_odd_names_at_once"
    ),
    "v1 renames directories, and its limit counts the whole form": (
        "test_kinds test_random_operations test_the_largest_file_that_can_be_stored"
    ),
}


def is_not_for_v1(item: pytest.Item) -> bool:
    """Tell whether *item* is a body that can't run on API v1."""
    named = {name for names in NOT_ON_V1.values() for name in names.split()}
    callspec = getattr(item, "callspec", None)
    on_v1 = callspec is not None and callspec.params.get("kind") == "v1"
    return on_v1 and getattr(item, "originalname", "") in named
