"""Who may import what, what a module may be called, and what the quick commands must not load."""

import ast
import importlib
import re
import subprocess
import sys

import pytest

from tests.support.gateways import REPOSITORY, environment

PACKAGE = REPOSITORY / "mavi_tasks"
SOURCES = sorted(PACKAGE.rglob("*.py")) + sorted((REPOSITORY / "flows").glob("*.py"))
HEAVY = ("pandas", "pyarrow", "prefect", "numpy", "duckdb", "polars", "scipy")

# The order of the packages: each imports only packages of lines below its own, or its own.
LAYERS = """
cli
api
view
flows
reports
execution
gateway planning
job
prompts
manifest
media
costs compare
estimate
pricing
storage
limits
providers
labels
common
schema
errors
"""
LEVEL = {name: level for level, line in enumerate(LAYERS.split("\n")[-2:0:-1]) for name in line.split()}
# Below everything, beside everything: the embedded gateway imports nothing of ours, and may be used by all.
APART = ("sandbox",)
AT_THE_TOP = {"__init__.py", "__main__.py", "errors.py", "schema.py", "py.typed"}
MOST_LINES = 399

# Words that stand for an idea with a standard name (attempt, request, limiter, worker pool, run report ...).
PRIVATE_WORDS = {
    "lane", "lanes", "asking", "told", "untold", "heard", "bury", "undertaker", "share", "turn",
    "turns", "books", "want", "wants", "wanted", "way", "ways", "crew", "staff", "mourn", "desk", "errand",
    "talk", "words",
}  # fmt: skip


def imported(path):
    """Every module that a file imports, wherever in it; relative ones made absolute."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield _absolute(path, node)


def _absolute(path, node):
    if not node.level:
        return node.module
    package = path.relative_to(REPOSITORY).with_suffix("").parts[: -node.level]
    return ".".join([*package, *filter(None, [node.module])])


# -- layers


def package_of(path):
    """The first level below mavi_tasks: `costs`, `schema`; None for the package itself and __main__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts[0] not in ("__init__", "__main__") else None


def module_of(path):
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(path):
    """The modules of ours that a file imports; `from mavi_tasks.costs import cube` is the module cube."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(path, node)
            below = [f"{base}.{alias.name}" for alias in node.names]
            names = [name for name in below if name in MODULES]
            if len(names) < len(below):
                names.append(base)
        else:
            continue
        yield from (name for name in names if name in MODULES)


GRAPH = {
    module: {name for name in imported_modules(path) if name != module} for module, path in MODULES.items()
}


def packages_imported():
    """(importing package, imported package) -> the modules where that is."""
    found = {}
    for module, names in GRAPH.items():
        here = package_of(MODULES[module])
        for name in names:
            there = package_of(MODULES[name])
            if here is not None and there is not None and here != there:
                found.setdefault((here, there), set()).add(f"{module} -> {name}")
    return found


def test_every_package_has_its_layer():
    assert {package_of(path) for path in MODULES.values()} - {None} - set(APART) == set(LEVEL)


def test_imports_go_down_the_layers():
    """Imports inside functions and under TYPE_CHECKING are counted, too."""
    up = {
        f"{here} imports {there}: {line}"
        for (here, there), lines in packages_imported().items()
        if there not in APART and LEVEL[here] <= LEVEL[there]
        for line in lines
    }
    assert up == set()


def cycles(graph):
    """The strongly connected components with more than one member (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for name in graph[node]:
            if name not in index:
                visit(name)
            if name in stack:
                low[node] = min(low[node], low[name])
        if low[node] == index[node]:
            position = stack.index(node)
            if len(stack) - position > 1:
                found.append(sorted(stack[position:]))
            del stack[position:]

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_no_modules_import_each_other():
    assert cycles(GRAPH) == []


def test_no_packages_import_each_other():
    graph = {package_of(path): set() for path in MODULES.values()}
    for here, there in packages_imported():
        graph[here].add(there)
    del graph[None]
    assert cycles(graph) == []


# -- names and sizes


def test_beside_the_packages_only_the_public_modules_are_at_the_top():
    there = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert there <= AT_THE_TOP


def test_every_module_can_be_read_in_one_sitting():
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > MOST_LINES} == {}


def private_words(name):
    return PRIVATE_WORDS & set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def test_no_module_is_named_by_a_private_word():
    assert {module for module in MODULES if private_words(module.rpartition(".")[2])} == set()


def test_no_class_or_public_function_is_named_by_a_private_word():
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = {
        f"{module}: {node.name}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, kinds) and not node.name.startswith("_") and private_words(node.name)
    }
    assert found == set()


# -- third parties


def importers(*tops):
    """The files that import one of these top packages."""
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in SOURCES
        if any(name == top or name.startswith(f"{top}.") for name in imported(path) for top in tops)
    }


# Leases from a Prefect server's limits: one store among others, loaded when a job names it.
LEASES = "mavi_tasks/limits/shared/prefect_store.py"


def only(found, *allowed):
    return {
        path for path in found if not any(path == rule or path.startswith(rule) for rule in allowed if rule)
    }


def test_prefect_stays_in_tasks_and_flows():
    assert only(importers("prefect"), "mavi_tasks/flows/", LEASES) == set()


def test_what_needs_prefect_is_imported_where_it_is_used_only():
    """At the top of a module it would be loaded by everybody."""
    for path in SOURCES:
        body = ast.parse(path.read_text("utf-8")).body
        at_load = {node.module for node in body if isinstance(node, ast.ImportFrom) and not node.level}
        if path.name != "tasks.py" and "flows" not in path.parts:
            assert "mavi_tasks.limits.shared.prefect_store" not in at_load, path
            assert "mavi_tasks.flows.tasks" not in at_load, path


def test_only_the_command_line_imports_flows():
    assert only(importers("mavi_tasks.flows"), "mavi_tasks/cli/", "mavi_tasks/flows/", "flows/") == set()


def test_http_stays_in_the_gateway_the_media_and_the_sandbox():
    web = importers("httpx", "aiohttp", "httpx_aiohttp", "requests", "urllib.request", "http.client")
    assert (
        only(
            web,
            "mavi_tasks/gateway/client.py",
            "mavi_tasks/media/",
            "mavi_tasks/sandbox/",
            "mavi_tasks/view/",
            LEASES,
        )
        == set()
    )


def test_the_sandbox_imports_nothing_of_ours():
    ours = {
        (path.name, name)
        for path in sorted((PACKAGE / "sandbox").rglob("*.py"))
        for name in imported(path)
        if name.split(".")[0] in ("mavi_tasks", "flows") and not name.startswith("mavi_tasks.sandbox")
    }
    assert ours == set()


def test_providers_are_pure():
    """No network, no files, no clock: what is sent depends on what is asked alone."""
    impure = {"httpx", "aiohttp", "socket", "asyncio", "os", "time", "random", "subprocess", "urllib.request"}
    found = {(p.name, n) for p in (PACKAGE / "providers").glob("*.py") for n in imported(p) if n in impure}
    assert found == set()


def compared_with_a_family(path):
    """Lines that choose by a family's name: `x == "gemini"`, `x in ("gpt", ...)`, `match` on one."""
    families = {"gemini", "gpt", "qwen", "nova"}

    def names(node):
        return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and n.value in families}

    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        compared = isinstance(node, ast.Compare) and any(
            names(part) for part in [node.left, *node.comparators]
        )
        if compared or (isinstance(node, ast.match_case) and names(node.pattern)):
            yield f"{path.relative_to(REPOSITORY)}:{node.lineno if hasattr(node, 'lineno') else ''}"


def test_no_family_is_known_outside_providers():
    inside = (PACKAGE / "providers", PACKAGE / "sandbox")
    found = [
        line
        for path in SOURCES
        if not any(folder in path.parents for folder in inside)
        for line in compared_with_a_family(path)
    ]
    assert found == []


# -- the screen

SCREEN = {"mavi_tasks/common/screen.py"}
CONSOLE = {"mavi_tasks/reports/terminal/console.py"}
STREAMS = {  # neither prints a text
    "mavi_tasks/cli/main.py": {"stdout"},  # gives stdout away when its reader has gone
    "mavi_tasks/execution/distributed/worker_main.py": {"stdout", "stderr"},  # the pipe to the parent
}


PRINTS = re.compile(
    r"(print|input|warnings\.warn|logging\.(basicConfig|StreamHandler)"
    r"|(.*\.)?(Console|ArgumentParser|print_exc|print_exception))"
).fullmatch


def printing(path):
    """What a module calls or takes to write to the screen by itself."""
    allowed = STREAMS.get(path.relative_to(REPOSITORY).as_posix(), ())
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and PRINTS(ast.unparse(node.func)):
            yield ast.unparse(node.func)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"):
            yield from {node.attr} - set(allowed)


def test_no_module_prints_but_through_the_screen():
    """What others wrote could steer the terminal; the screen and its console clean every text."""
    found = {path.relative_to(REPOSITORY).as_posix(): set(printing(path)) for path in SOURCES}
    assert {name for name, used in found.items() if used} == SCREEN, found


def test_only_the_clean_console_is_a_console():
    """Others take the class for their annotations, and make none."""
    subclass = {
        path.relative_to(REPOSITORY).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and any("Console" in ast.unparse(base) for base in node.bases)
    }
    assert subclass == CONSOLE


# -- what is loaded


@pytest.fixture(scope="module")
def bad_job(tmp_path_factory):
    path = tmp_path_factory.mktemp("bad") / "job.yaml"
    path.write_text("manifest: nowhere.csv\nmodel: gemini:gemini-2.5-flash\n")
    return path


def loaded(*argv):
    """The top packages that a command has loaded when it ends."""
    code = (
        "import sys\nfrom mavi_tasks.cli.main import main\n"
        f"try:\n    main({list(map(str, argv))!r})\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


PRICE = ["price", "gpt:gpt-4o", "--input", "1", "--output", "1"]


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["models"], PRICE], ids=" ".join)
def test_quick_commands_load_nothing_heavy(argv):
    assert loaded(*argv) & set(HEAVY) == set()


def test_a_bad_job_file_is_reported_without_loading_anything_heavy(bad_job):
    assert loaded("run", bad_job) & set(HEAVY) == set()


def test_every_bench_finds_what_it_measures():
    benches = [
        f"tests.bench.{path.stem}" for path in sorted((REPOSITORY / "tests" / "bench").glob("[!_]*.py"))
    ]
    assert len(benches) > 5
    for name in [*benches, "tests.bench.hostile.__main__"]:
        importlib.import_module(name)
