"""Who may import what, and what the quick commands must not load."""

import ast
import re
import subprocess
import sys

import pytest

from tests.support.gateways import REPOSITORY, environment

PACKAGE = REPOSITORY / "mavi_tasks"
SOURCES = sorted(PACKAGE.rglob("*.py")) + sorted((REPOSITORY / "flows").glob("*.py"))
HEAVY = ("pandas", "pyarrow", "prefect", "numpy", "duckdb", "polars", "scipy")


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
        only(web, "mavi_tasks/gateway/client.py", "mavi_tasks/media/", "mavi_tasks/sandbox/", LEASES) == set()
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


def test_stages_do_not_reach_up():
    """Data goes one way: what is below never imports what puts it together."""
    below = ("providers", "media", "limits", "manifest", "labels", "estimate", "sandbox")
    up = re.compile(r"mavi_tasks\.(cli|flows|reports|execution|planning)(\.|$)")
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for folder in below
        for path in (PACKAGE / folder).rglob("*.py")
        for name in imported(path)
        if up.match(name)
    }
    assert found == set()


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


def test_a_bad_job_file_is_told_without_loading_anything_heavy(bad_job):
    assert loaded("run", bad_job) & set(HEAVY) == set()
