"""The FUSE libraries: which is loaded, what they are told, how names of any bytes pass."""

from __future__ import annotations

import codecs
import errno
import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from firecrestfs import binding


def made(name: str, **fields: Any) -> Any:
    """Return what stands for a binding that was imported."""
    return SimpleNamespace(__name__=name, _libfuse=SimpleNamespace(_name="libfuse.so"), **fields)


LIBFUSE2 = made("fuse")
LIBFUSE3 = made("mfusepy", fuse_version_major=3, fuse_version_minor=14)
#: mfusepy on a machine that has libfuse 2 alone.
OLD_LIBRARY = made("mfusepy", fuse_version_major=2, fuse_version_minor=9)


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [LIBFUSE2, LIBFUSE3, OLD_LIBRARY])
def test_settings_of_all_libraries(library: Any) -> None:
    settings = binding.fuse_settings(library, "example.org")
    assert settings["foreground"] is True
    assert settings["use_ino"] is True
    assert (settings["attr_timeout"], settings["negative_timeout"]) == (0, 0)
    assert settings["entry_timeout"] <= 1
    assert (settings["fsname"], settings["subtype"]) == ("example.org", "firecrestfs")
    assert "hard_remove" not in settings


@pytest.mark.parametrize("library", [LIBFUSE2, OLD_LIBRARY])
def test_libfuse_2_needs_to_be_told_more(library: Any) -> None:
    settings = binding.fuse_settings(library, "x")
    assert settings["big_writes"] and settings["atomic_o_trunc"]
    assert "max_threads" not in settings


def test_libfuse_3_refuses_what_it_does_anyway() -> None:
    settings = binding.fuse_settings(LIBFUSE3, "x")
    assert "big_writes" not in settings and "atomic_o_trunc" not in settings
    assert settings["max_threads"] > 64


def test_an_old_libfuse_3_is_not_asked_for_more_threads() -> None:
    library = made("mfusepy", fuse_version_major=3, fuse_version_minor=10)
    assert "max_threads" not in binding.fuse_settings(library, "x")


# -- loading -------------------------------------------------------------------------------------


def test_a_missing_library_says_what_to_install() -> None:
    with pytest.raises(OSError, match="install the packages fuse3 and libfuse2") as caught:
        binding.load_binding("no_such_binding")
    assert caught.value.errno
    assert "no_such_binding" in str(caught.value.strerror)


@pytest.mark.parametrize("trouble", [ImportError, OSError, AttributeError])
def test_the_next_binding_is_taken_where_one_does_not_load(
    monkeypatch: pytest.MonkeyPatch, trouble: type[Exception]
) -> None:
    """fusepy raises OSError without libfuse, AttributeError with one that lacks a function."""
    second = ModuleType("fuse")

    def load(name: str) -> ModuleType:
        if name == "mfusepy":
            raise trouble("Unable to find libfuse")
        return second

    monkeypatch.setattr(importlib, "import_module", load)
    assert binding.load_binding() is second
    with pytest.raises(OSError, match="Unable to find libfuse"):
        binding.load_binding("mfusepy")


def test_mfusepy_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: name)
    assert binding.load_binding() == "mfusepy"
    assert binding.load_binding("fuse") == "fuse"


def test_only_the_binding_that_is_named_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two in one process would fight over the library's signal handlers."""
    asked: list[str] = []

    def load(name: str) -> Any:
        asked.append(name)
        return made(name)

    monkeypatch.setattr(importlib, "import_module", load)
    binding.load_binding("fuse")
    assert asked == ["fuse"]


def test_a_binding_is_described_with_its_library() -> None:
    assert binding.describe_binding(LIBFUSE3) == "mfusepy with libfuse.so"


# -- mounting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fuse", "mfusepy"])
def test_what_the_library_is_called_with(name: str) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    library = made(name, FUSE=lambda *args, **options: calls.append((args, options)))
    operations = object()
    binding.run_fuse(library, operations, "/mnt/hpc", {"foreground": True})
    [(args, options)] = calls
    assert args == (operations, "/mnt/hpc")
    assert (options["raw_fi"], options["foreground"]) == (True, True)
    assert ("encoding" in options) is (name == "fuse")
    if name == "fuse":
        assert b"\xff".decode(options["encoding"]) == "\udcff"


def test_a_mount_that_fails_is_an_oserror() -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError(1)

    with pytest.raises(OSError, match="/mnt/hpc") as caught:
        binding.run_fuse(made("mfusepy", FUSE=fail), object(), "/mnt/hpc", {})
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("name", ["plain", "ünï", "\udcff\udc80", "two\nlines", ""])
def test_names_of_any_bytes_pass_the_codec(name: str) -> None:
    binding._register_path_codec()
    binding._register_path_codec()
    raw = name.encode("utf-8", "surrogateescape")
    assert name.encode("utf-8-firecrestfs") == raw
    assert raw.decode("utf-8-firecrestfs") == name
    assert codecs.lookup("utf_8_firecrestfs").name == "utf-8-firecrestfs"


def test_importing_the_module_imports_no_library() -> None:
    assert "firecrestfs.binding" in sys.modules
    assert not {"fuse", "mfusepy"} & set(vars(binding))
