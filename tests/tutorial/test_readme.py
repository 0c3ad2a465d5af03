"""README and docs cannot drift: commands are parsed, links followed, YAML and SQL loaded, Python compiled."""

import ast
import importlib.util
import re
import shlex
import shutil
from functools import cache
from pathlib import Path

import duckdb
import pytest
import yaml

from mavi_tasks.cli.main import COMMANDS, parser
from mavi_tasks.job import load_job
from tests.support.gateways import REPOSITORY, mavi, remote_sandbox, rows, write_job

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
LONGEST_README = 160
PROGRAM = re.compile(r"(\.venv/bin/)?mavi ")
PET = {"type": "object", "properties": {"animal": {"type": "string"}}, "required": ["animal"]}


@cache
def text(page):
    return page.read_text("utf-8")


def name(page):
    return str(page.relative_to(REPOSITORY))


def blocks(language):
    """Every fenced block of a language, as a test's parameter."""
    return [
        pytest.param(page, block, id=f"{name(page)}-{number}")
        for page in PAGES
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", text(page), re.DOTALL), 1)
    ]


def commands():
    """Every command in a shell block, without its comment."""
    for page, block in (parameter.values for parameter in blocks("sh")):
        for line in block.splitlines():
            for command in line.split("  #")[0].strip().split(" && "):
                yield pytest.param(command, id=f"{name(page)}: {command}")


ALL_COMMANDS = list(commands())


def matching(pattern):
    return [one for one in ALL_COMMANDS if re.match(pattern, one.values[0])]


# -- commands


@pytest.mark.parametrize("command", matching(PROGRAM))
def test_every_command_is_one_that_the_program_takes(command):
    parser().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("command", matching(r"(\.venv/bin/)?python -m mavi_tasks"))
def test_every_module_that_is_run_exists(command):
    assert importlib.util.find_spec(shlex.split(command)[2]) is not None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_figure_can_be_made_again(page):
    for module in re.findall(r"python -m (tests\.bench\.\w+)", text(page)):
        assert (REPOSITORY / Path(*module.split("."))).with_suffix(".py").exists(), module


def test_every_command_of_the_program_is_in_the_readme():
    assert [command for command, *_ in COMMANDS if f"mavi {command}" not in text(PAGES[0])] == []


def test_every_option_in_the_command_table_exists():
    table = re.findall(r"^\| `mavi (\w+)[^|]*\|(.*)\|$", text(PAGES[0]), re.MULTILINE)
    assert len(table) == len(COMMANDS)
    subcommands = next(action.choices for action in parser()._actions if action.dest == "==SUPPRESS==")
    for command, does in table:
        known = subcommands[command].format_help()
        assert [option for option in re.findall(r"--[\w-]+", does) if option not in known] == []


def test_the_set_up_commands_are_those_that_the_gate_runs():
    """`.ci/run` finds both by how their lines begin, and runs them word for word."""
    lines = text(PAGES[0]).splitlines()
    assert sum(line.startswith("python3 -m venv .venv") for line in lines) == 1
    assert sum(line.startswith(".venv/bin/pip install -q -e") for line in lines) == 1


# -- links


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for path, anchor in re.findall(r"\]\(([\w./-]*)(#[\w-]+)?\)", text(page)):
        target = (page.parent / path) if path else page
        assert target.exists(), path
        assert not anchor or anchor in headings(target), path + anchor


def headings(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_linked_from_the_readme():
    assert [name(page) for page in PAGES[1:] if f"({name(page)})" not in text(PAGES[0])] == []


def test_every_file_that_contributors_are_sent_to_exists():
    section = text(REPOSITORY / "docs" / "contributing.md").partition("## Where do I change")[2]
    paths = re.findall(r"`([\w/]+(?:\.py|\.toml|/))`", section.partition("## Tests")[0])
    assert len(paths) >= 10
    assert [path for path in paths if not (REPOSITORY / "mavi_tasks" / path).exists()] == []


def test_every_package_is_on_the_map():
    packages = {path.parent.name for path in (REPOSITORY / "mavi_tasks").glob("*/__init__.py")}
    page = text(REPOSITORY / "docs" / "contributing.md")
    assert [package for package in sorted(packages) if f"`{package}/`" not in page] == []


def test_the_readme_is_short_and_its_picture_small():
    assert len(text(PAGES[0]).splitlines()) < LONGEST_README
    assert (REPOSITORY / "docs" / "compare-report.png").stat().st_size < 200_000


# -- examples


@pytest.mark.parametrize(("page", "block"), blocks("yaml"))
def test_every_yaml_block_is_a_job_or_part_of_one(page, block, tmp_path):
    fields = yaml.safe_load(block)
    if "deployments" in fields:
        from mavi_tasks.flows.serve import deployments

        (tmp_path / "prefect.yaml").write_text(block)
        assert len(deployments(tmp_path / "prefect.yaml")) == len(fields["deployments"])
        return
    (tmp_path / "pets.csv").write_text("media_url,title\nhttps://media.example/cat.jpg,Tom\n")
    (tmp_path / "photos").mkdir()
    write_job(tmp_path, "pet.schema.json", **PET)
    shutil.copytree(REPOSITORY / "manifests", tmp_path / "manifests")
    rest = {"manifest": "pets.csv", "prompts": {"p": "What is it?"}, "models": ["gemini:gemini-2.5-flash"]}
    load_job(write_job(tmp_path, **{**rest, **fields}))


def test_the_job_of_the_readme_runs_as_it_is_copied(tmp_path):
    """In a copy of the repository: all that it names is there, and it needs no key."""
    (job,) = [block for page, block in (one.values for one in blocks("yaml")) if page == PAGES[0]]
    shutil.copytree(REPOSITORY / "manifests", tmp_path / "manifests")
    (tmp_path / "pets.yaml").write_text(job)
    ended = mavi("run", "pets.yaml", cwd=tmp_path, MAVI_API_KEY=None)
    assert ended.code == 0, ended.out + ended.err
    assert len(rows(tmp_path / "out" / "pets", "labels")) == 32


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A folder with the dataset out/pets: two items, two models, labels."""
    folder = tmp_path_factory.mktemp("docs")
    rows = "".join(f"https://media.example/{animal}.jpg\n" for animal in ("cat", "dog"))
    (folder / "pets.csv").write_text("media_url\n" + rows)
    with remote_sandbox() as gateway:
        job = write_job(
            folder,
            manifest="pets.csv",
            prompts={"p": "What animal is this?"},
            models=["gemini:gemini-2.5-flash", "gpt:gpt-4o-mini"],
            answer_schema=PET,
            gateway={"name": "sandbox", "base_url": gateway.base_url},
            output="out/pets",
        )
        assert mavi("run", job).code == 0
    return folder


@pytest.mark.parametrize(("page", "block"), blocks("sql"))
def test_every_query_runs_on_a_dataset(page, block, dataset):
    database = duckdb.connect()
    for query in filter(str.strip, block.split(";")):
        database.execute(query.replace("'out/", f"'{dataset}/out/")).fetchall()


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_every_python_block_compiles_and_uses_public_names(page, block):
    import mavi_tasks

    used = {
        node.attr
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mavi"
    }
    assert used
    assert used <= set(mavi_tasks.__all__)
