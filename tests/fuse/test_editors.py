"""What editors save: the bytes arrive, under the one name, with the mode that the file had.

What a save costs is in `test_editor_budgets`.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import zipfile
from pathlib import Path

import pytest

from ..fs.drivers import KernelDriver
from . import programs
from .programs import NEW, OLD, Save, shell

SAVES = {
    "vim": programs.by_vim(""),
    "vim, backup by renaming": programs.by_vim("writebackup backupcopy=no"),
    "vim, backup by copying": programs.by_vim("writebackup backupcopy=yes"),
    "nano": programs.by_nano(),
    "emacs": programs.by_emacs("make-backup-files nil"),
    "emacs, careful": programs.by_emacs("make-backup-files nil file-precious-flag t"),
    "sed -i": programs.by_command("sed -i '$a new line' NAME"),
    "python, os.replace": programs.by_python(programs._PYTHON),
    "gedit": programs.by_python(programs._GLIB),
    "rsync": programs.by_rsync,
}
#: Those that keep what was there before.
BACKUPS = {
    "vim, by renaming": programs.by_vim("backup backupcopy=no"),
    "vim, by copying": programs.by_vim("backup backupcopy=yes"),
    "nano": programs.by_nano("--backup"),
    "emacs, by renaming": programs.by_emacs("backup-by-copying nil"),
    "emacs, by copying": programs.by_emacs("backup-by-copying t"),
}

every_save = pytest.mark.parametrize("save", SAVES.values(), ids=SAVES.keys())


@every_save
def test_saving_a_file(fs: KernelDriver, there: Path, save: Save) -> None:
    (there / "notes").write_bytes(OLD)
    (there / "notes").chmod(0o640)
    save(fs, "notes")
    assert fs.read_file("notes") == NEW
    assert fs.listdir() == ["notes"]
    fs.land()
    assert (there / "notes").read_bytes() == NEW
    assert os.listdir(there) == ["notes"]
    if save is not programs.by_rsync:  # without -p it makes a new file's mode
        assert stat.S_IMODE((there / "notes").stat().st_mode) == 0o640


@every_save
def test_saving_again_what_is_not_stored_yet(fs: KernelDriver, there: Path, save: Save) -> None:
    fs.write_file("notes", OLD)
    save(fs, "notes")
    fs.land()
    assert (there / "notes").read_bytes() == NEW
    assert os.listdir(there) == ["notes"]


@pytest.mark.parametrize("save", BACKUPS.values(), ids=BACKUPS.keys())
def test_saving_with_a_backup(fs: KernelDriver, there: Path, save: Save) -> None:
    (there / "notes").write_bytes(OLD)
    save(fs, "notes")
    assert (fs.read_file("notes"), fs.read_file("notes~")) == (NEW, OLD)
    fs.land()
    assert ((there / "notes").read_bytes(), (there / "notes~").read_bytes()) == (NEW, OLD)
    assert sorted(os.listdir(there)) == ["notes", "notes~"]


def test_vim_does_not_warn_at_the_second_save(fs: KernelDriver, there: Path) -> None:
    """It would where the time that it remembers isn't the one that it sees after the store."""
    (there / "notes").write_bytes(OLD)
    command = ["vim", "-N", "-u", "NONE", "-i", "NONE", "notes"]
    with programs.Terminal(command, fs.path()) as vim:
        vim.expect(b"old line")
        vim.type(b"Gonew line\x1b:w\r")
        vim.expect(b"written")
        fs.land()
        fs.refresh()
        vim.type(b"Goone more\x1b:w\r")
        # A warning would stand where this does.
        vim.expect(b"written")
        vim.type(b":q\r")
        vim.wait()
    fs.land()
    assert (there / "notes").read_bytes() == NEW + b"one more\n"
    assert os.listdir(there) == ["notes"]


def test_vim_recovers_from_its_swap_file(fs: KernelDriver, there: Path) -> None:
    (there / "notes").write_bytes(OLD)
    command = ["vim", "-N", "-u", "NONE", "-i", "NONE", "-c", "set directory=.", "notes"]
    with programs.Terminal(command, fs.path()) as vim:
        vim.expect(b"old line")
        vim.type(b"Gonew line\x1b:preserve\r")
        vim.expect(b"preserved")
    assert sorted(fs.listdir()) == [".notes.swp", "notes"]
    shell(fs, "vim -es -N -u NONE -i NONE -c 'set directory=.' -c 'recover notes' -c 'w! back'")
    assert fs.read_file("back") == NEW


# -- many files, and one that is written in the middle ---------------------------------------------


def test_sqlite(fs: KernelDriver, there: Path) -> None:
    shell(fs, 'sqlite3 data.db "create table t (n integer, text text)"')
    for number in range(5):
        shell(fs, f'sqlite3 data.db "insert into t values ({number}, hex(randomblob(4000)))"')
    script = "begin; delete from t where n < 2; rollback; update t set text = 'x' where n = 4"
    shell(fs, f'sqlite3 data.db "{script}"')
    query = "select count(*), sum(n) from t; pragma integrity_check"
    assert shell(fs, f'sqlite3 data.db "{query}"') == "5|10\nok\n"
    fs.land()
    assert os.listdir(there) == ["data.db"]
    with sqlite3.connect(there / "data.db") as db:
        assert db.execute("select count(*), sum(n) from t").fetchone() == (5, 10)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()


def test_sqlite_with_a_write_ahead_log(fs: KernelDriver, there: Path) -> None:
    script = "pragma journal_mode = wal; create table t (n); insert into t values (1), (2)"
    shell(fs, f'sqlite3 data.db "{script}"')
    assert shell(fs, 'sqlite3 data.db "select sum(n) from t"') == "3\n"
    fs.land()
    with sqlite3.connect(there / "data.db") as db:
        assert db.execute("select sum(n) from t").fetchone() == (3,)
    db.close()


def test_unzip(fs: KernelDriver, there: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for number in range(12):
            info = zipfile.ZipInfo(f"tree/d{number % 3}/f{number}", (2020, 2, 2, 20, 20, 20))
            info.external_attr = (stat.S_IFREG | (0o755 if number == 1 else 0o644)) << 16
            archive.writestr(info, b"%d\n" % number * 100 * (number % 4))
    shell(fs, 'unzip -q "$ZIP"', ZIP=tmp_path / "tree.zip")
    fs.land()
    for number in range(12):
        path = there / f"tree/d{number % 3}/f{number}"
        assert path.read_bytes() == b"%d\n" % number * 100 * (number % 4)
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if number == 1 else 0o644)
    shell(fs, 'diff -r tree "$THERE/tree"', THERE=there)
