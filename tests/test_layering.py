"""The rules of the package's shape: who imports whom, how long things grow, what is documented."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import firecrestfs

PACKAGE = Path(firecrestfs.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: Part of the package → how high it stands. A part imports what stands lower, never its equals.
RANKS = {
    "model": 0,
    "paths": 0,
    "errors": 1,
    "faultpoints": 1,
    "cache": 2,
    "api": 2,
    "transfer": 3,
    "vfs": 4,
    "binding": 5,
    "config": 5,
    "door": 5,
    "opened": 5,
    "statfields": 5,
    "threadstate": 5,
    "fuseops": 6,
    "mountpoints": 6,
    "kept": 7,
    "running": 7,
    "controls": 8,
    "stagedparts": 8,
    "mount": 9,
    "jobcommands": 9,
    "daemon": 10,
    "doctor": 10,
    "demo": 10,
    "cli": 11,
    "__main__": 12,
}
#: `demo` starts the emulator; the emulator knows nobody.
EXTRA = {("demo", "emulator"), ("cli", "emulator")}
BINDINGS = {"fuse", "mfusepy", "fusepy", "pyfuse3", "llfuse"}

MAX_FILE_LINES = 399
MAX_FUNCTION_LINES = 60
P90_FUNCTION_LINES = 30
MEDIAN_FUNCTION_LINES = 8


def module_name(file: Path) -> str:
    """Return the dotted name within the package: `vfs.remote`, `cli`; packages as `vfs`."""
    parts = list(file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def part(name: str) -> str:
    return name.partition(".")[0]


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def under_type_checking(tree: ast.Module) -> set[ast.AST]:
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }


def imports(file: Path, *, lazy: bool = True) -> Iterator[str]:
    """Yield the absolute dotted names that *file* imports; *lazy*: inside functions, too."""
    tree = tree_of(file)
    skip = under_type_checking(tree)
    base = ["firecrestfs", *file.relative_to(PACKAGE).with_suffix("").parts][:-1]
    nodes = ast.walk(tree) if lazy else iter(tree.body)
    for node in nodes:
        if node in skip:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else []
            stem = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def own_imports(file: Path, *, lazy: bool = True) -> Iterator[str]:
    """Yield the modules of the package that *file* imports, as `module_name` writes them."""
    known = {module_name(each) for each in FILES}
    for name in imports(file, lazy=lazy):
        parts = name.split(".")
        if parts[0] != "firecrestfs":
            continue
        inner = parts[1:]
        while inner and ".".join(inner) not in known:
            inner.pop()
        if inner:
            yield ".".join(inner)


def named(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


every_file = pytest.mark.parametrize("file", FILES, ids=named)


# -- imports -------------------------------------------------------------------------------------


def test_every_part_has_its_place() -> None:
    parts = {part(module_name(file)) for file in FILES} - {"__init__", "emulator"}
    assert parts == set(RANKS)


@every_file
def test_imports_go_down(file: Path) -> None:
    here = part(module_name(file))
    for name in own_imports(file):
        there = part(name)
        if there == here or (here, there) in EXTRA or there == "__init__":
            continue
        assert here != "emulator", f"the emulator imports {name}"
        assert here != "__init__", f"the package itself imports {name}"
        assert there != "emulator", f"{here} imports the emulator"
        assert RANKS[there] < RANKS[here], f"{here} imports {name}"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        module_name(file): sorted(set(own_imports(file, lazy=False)) - {module_name(file)})
        for file in FILES
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"circle: {' → '.join([*way[way.index(name) :], name])}"
        # A package's page gathers its modules' names; they may not import the page back.
        if name in done:
            return
        for each in graph[name]:
            visit(each, (*way, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@every_file
def test_requests_stays_in_api(file: Path) -> None:
    http = {"requests", "urllib3", "http.client", "urllib.request", "httpx"}
    if part(module_name(file)) in ("api", "emulator"):
        return
    for name in imports(file):
        assert name.partition(".")[0] not in http and not any(
            name.startswith(each + ".") for each in http
        ), f"imports {name}"


@every_file
def test_a_fuse_binding_is_for_one_module_alone(file: Path) -> None:
    if module_name(file) == "binding":
        return
    for name in imports(file):
        assert name.partition(".")[0] not in BINDINGS
    assert "import_module" not in {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Attribute | ast.Name)
    }, "imports by a name that isn't seen here"


def run_python(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not there")
sys.meta_path.insert(0, Blocked())
"""


def test_the_client_works_without_libfuse() -> None:
    code = BLOCK.format(blocked=BINDINGS)
    run_python(code + "import firecrestfs.api as api; api.Firecrest; api.TypedClient")


def test_the_command_line_helps_without_libfuse_and_without_flask() -> None:
    code = BLOCK.format(blocked=BINDINGS | {"flask", "cheroot", "jwt"})
    run_python(code + "from firecrestfs.cli import main; main(['--help'], standalone_mode=False)")


def test_the_emulator_loads_nothing_of_the_rest() -> None:
    run_python(
        "import sys, firecrestfs.emulator\n"
        "mine = [name for name in sys.modules if name.startswith('firecrestfs.')]\n"
        "rest = [name for name in mine if not name.startswith('firecrestfs.emulator')]\n"
        "assert not rest, rest\n"
        "assert 'requests' not in sys.modules\n"
    )


# -- the environment -----------------------------------------------------------------------------


def environment_uses(tree: ast.Module) -> Iterator[tuple[int, bool]]:
    """Yield line and whether it only passes all of the environment on, for each use of it."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
            parent = parents[node]
            union = isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.BitOr)
            unpacked = isinstance(parent, ast.Dict) and node in parent.values
            copied = isinstance(parent, ast.Call) and ast.unparse(parent.func) == "dict"
            yield node.lineno, union or unpacked or copied
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                if alias.name in ("environ", "getenv"):
                    yield node.lineno, False


@every_file
def test_only_config_reads_the_environment(file: Path) -> None:
    """The demo and the emulator pass theirs on to the programs that they start."""
    here = part(module_name(file))
    if here == "config":
        return
    for line, passed_on in environment_uses(tree_of(file)):
        assert here in ("demo", "emulator") and passed_on, f"line {line}"


# -- numbers -------------------------------------------------------------------------------------


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Yield each function with its number of lines."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{named(file)}:{node.name}", node.end_lineno - node.lineno + 1


@every_file
def test_no_file_is_too_long_to_be_read_in_one_go(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MAX_FILE_LINES


@every_file
def test_no_function_is_longer_than_a_page(file: Path) -> None:
    long = {name: lines for name, lines in functions(file) if lines > MAX_FUNCTION_LINES}
    assert long == {}


def test_functions_are_short() -> None:
    lines = sorted(number for file in FILES for _, number in functions(file))
    assert statistics.median(lines) <= MEDIAN_FUNCTION_LINES
    assert lines[len(lines) * 9 // 10] <= P90_FUNCTION_LINES


# -- documentation -------------------------------------------------------------------------------


def undocumented(node: ast.Module | ast.ClassDef, where: str) -> Iterator[str]:
    """Yield public things without a docstring: the module, its classes, functions and methods."""
    if not ast.get_docstring(node):
        yield where
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, f"{where}.{child.name}")
        elif not ast.get_docstring(child):
            yield f"{where}.{child.name}"


@every_file
def test_everything_public_is_documented(file: Path) -> None:
    assert list(undocumented(tree_of(file), module_name(file))) == []


@every_file
def test_no_except_is_bare(file: Path) -> None:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"
