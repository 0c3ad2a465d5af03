"""What prompts promise: strict about names, silent about the answer, bounded in what they do, told once."""

import datetime as dt

import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.manifest import Item, Problems
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.prompts.templates import MediaView, Prompts

CAT = MediaView("image", "cat.jpg", "https://a.example/cat.jpg", 1)


def item(prompt=None, where="pets.csv:7", **variables):
    return Item("a", (CAT.uri,), prompt, "cat", variables, where)


def render(template, *, view=CAT, **variables):
    prompts = Prompts({"q": template})
    texts = prompts.render(item(**variables), view)
    prompts.finish()
    return texts[0][1]


def told(template, **variables):
    with pytest.raises(InputError) as caught:
        render(template, **variables)
    return str(caught.value)


# ---- what is rendered ----


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("What is it?", "What is it?"),
        (
            "What animal is this {{ media.kind }}? Title: {{ title }}.",
            "What animal is this image? Title: A cat.",
        ),
        ("100% {{ title }} %s {{media.count}}", "100% A cat %s 1"),
        ("{{ media.name }} {{ media.uri }}", "cat.jpg https://a.example/cat.jpg"),
        ("{{ item_id }}: {{ n }} {{ price }}", "a: 3 0.5"),
        ("{{ title | upper }}{% if n > 2 %}!{% endif %}", "A CAT!"),
        ("{% for tag in tags %}{{ loop.index }}{{ tag }} {% endfor %}", "1x 2y "),
        ("{{ row['Product title'] }}", "Gloves"),
        ("{{ title ~ n }}", "A cat3"),
        ("{{ title | replace('A', 'The') | center(9) }}", " The cat "),
        ("{{ tags | join(', ') }} {{ tags | tojson }}", 'x, y ["x", "y"]'),
        ("{{ nothing or 'none' }}", "none"),
        ("{{ unknown | default('-') }}{% if other is defined %}{{ other }}{% endif %}", "-"),
        ("<b>{{ html }}</b>", "<b><i>&</i></b>"),
        ("{% for n in range(3) %}{{ n }}{% endfor %}", "012"),
        ("Käse {{ title }} 🐈", "Käse A cat 🐈"),
        ("{# a note #}x{% set y = 1 %}{{ y }}", "x1"),
        ("{% macro pet(n) %}<{{ n }}>{% endmacro %}{{ pet(title) }}{{ pet(1) }}", "<A cat><1>"),
        (
            "{% set s = namespace(n=0) %}{% for t in tags %}{% set s.n = s.n + 1 %}{% endfor %}{{ s.n }}",
            "2",
        ),
        ("{% for k, v in place.items() | sort %}{{ k }}={{ v }};{% endfor %}", "x=1;y=[2];"),
        ("{{ place.x }}{{ place.get('z', 5) }}{{ place.keys() | list }}", "15['x', 'y']"),
        ("{{ tags[:1] | join }}{{ tags | map('upper') | join('+') }}{{ tags | first }}", "xX+Yx"),
        ("{{ title.split()[1].upper() }} {{ title.replace('cat', 'dog').strip() }}", "CAT A dog"),
        ("{{ [3, 1, 2] | sort | last }} {{ {'a': 1} | tojson(indent=2) }}", '3 {\n  "a": 1\n}'),
        ("{% for t in tags %}{{ loop.cycle('a', 'b') }}{{ ',' if not loop.last }}{% endfor %}", "a,b"),
        ("{{ day.strftime('%d %b') }} {{ day.year }} {{ day.isoformat() }}", "02 Jan 2026 2026-01-02"),
        ("{{ price | round(1) }} {{ 7 // 2 }} {{ -n }} {{ n ** 2 }} {{ n % 2 }}", "0.5 3 -3 9 1"),
        ("{% filter upper %}{{ title }}{% endfilter %}{% with a = 1 %}{{ a }}{% endwith %}", "A CAT1"),
        ("{% if title is string and 'cat' in title and n in [1, 3] %}yes{% endif %}", "yes"),
        ("{{ tags | select('ne', 'x') | list }} {{ tags | reverse | list }}", "['y'] ['y', 'x']"),
        ("{% set s = joiner(', ') %}{% for t in tags %}{{ s() }}{{ t }}{% endfor %}", "x, y"),
    ],
)
def test_template_renders_as_jinja_does(template, text):
    columns = {
        "title": "A cat",
        "n": 3,
        "price": 0.5,
        "tags": ["x", "y"],
        "nothing": None,
        "html": "<i>&</i>",
        "place": {"x": 1, "y": [2]},
        "day": dt.date(2026, 1, 2),
    }
    assert render(template, **columns, **{"Product title": "Gloves"}) == text


def test_every_template_is_rendered_for_every_item():
    prompts = Prompts({"a": "x", "b": "{{ title }}"})
    assert prompts.render(item(title="t"), CAT) == [("a", "x"), ("b", "t")]


def test_own_prompt_of_a_row_is_literal_and_takes_the_place_of_the_templates():
    prompts = Prompts({"a": "{{ title }}"})
    assert prompts.render(item(prompt="{{ not a template }}"), CAT) == [("row", "{{ not a template }}")]
    prompts.finish()


def test_id_is_also_there_under_its_columns_name():
    prompts = Prompts({"a": "{{ sku }}={{ item_id }}", "b": "{{ sku|upper }}"}, Columns(id="sku"))
    assert prompts.render(item(), CAT) == [("a", "a=a"), ("b", "A")]


def test_needed_columns_are_known_before_any_row():
    prompts = Prompts(
        {"a": "{{ title }} {{ media.kind }}", "b": "{% if x is defined %}{{ x }}{% endif %}{{ y|upper }}"}
    )
    assert prompts.needed == {"title", "y"}


# ---- what is missing ----


def test_missing_variable_names_row_item_prompt_and_the_nearest():
    assert told("{{ titel }}", title="x") == (
        "pets.csv:7: item 'a': prompts.q: there is no variable 'titel'; did you mean title?"
    )


def test_missing_variable_in_a_program_is_told_alike():
    assert "there is no variable 'titel'; did you mean title?" in told("{{ titel | upper }}", title="x")
    assert "'str object' has no attribute 'x'" in told("{{ title.x }}", title="y")


def test_missing_column_is_told_once_for_a_million_items():
    prompts = Prompts({"q": "{{ titel }} {{ other }}"})
    for line in range(1000):
        ((_, why),) = prompts.render(item(where=f"pets.csv:{line}", title="x"), CAT)
        assert (why.code, why.reason[:10]) == ("prompt_failed", "prompts.q:")
    with pytest.raises(InputError) as caught:
        prompts.finish()
    assert caught.value.problems == (
        "pets.csv:0: item 'a': prompts.q: there is no variable 'other'; there are item_id, media, row, title"
        " (and 999 more items)",
        "pets.csv:0: item 'a': prompts.q: there is no variable 'titel'; did you mean title?"
        " (and 999 more items)",
    )


def test_problems_of_the_manifest_and_the_prompts_are_told_together():
    problems = Problems()
    problems.add("pets.csv:3: media_url is empty")
    prompts = Prompts({"q": "{{ titel }}"}, problems=problems)
    prompts.render(item(title="x"), CAT)
    with pytest.raises(InputError) as caught:
        prompts.finish()
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("template", ["{{ title }}", "{{ title }}{% if 1 %}{% endif %}"])
@pytest.mark.parametrize("value", [None, float("nan")])
def test_null_is_not_printed_as_a_word(template, value):
    assert "is null; write {{ title or '' }} if that may be" in told(template, title=value)


def test_prompt_that_is_empty_for_an_item_is_told():
    assert "is empty for this item" in told("  {{ title }} ", title="")


def test_items_that_cannot_fill_a_prompt_may_be_skipped_unless_none_can():
    prompts = Prompts({"a": "{{ title }}", "b": "{{ titel }}"})
    prompts.render(item(title="x"), CAT)
    prompts.render(item(title=None), CAT)
    with pytest.raises(InputError, match="titel") as caught:
        prompts.finish(skip_bad=True)
    assert len(caught.value.problems) == 1


def test_item_without_any_prompt_is_told():
    prompts = Prompts({})
    prompts.render(item(), CAT)
    with pytest.raises(InputError, match="give the job `prompts`, the row a prompt of its own"):
        prompts.finish()


# ---- what is refused before any row ----

REFUSED = {
    "syntax": ("one\n{{ x", "prompts.q: line 2: unexpected end of template"),
    "open loop": ("{% for x in y %}", "prompts.q: line 1: Unexpected end of template"),
    "unknown filter": ("{{ x | shout }}", "No filter named 'shout'"),
    "blocks": ("{% block a %}{{ self.a() }}{% endblock %}", "{% block %} is for pages"),
    "callers": (
        "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
        "{% call %} is off; call a macro by its name",
    ),
    "loops in themselves": (
        "{% for a in x recursive %}{{ loop(x) }}{% endfor %}",
        "{% for ... recursive %} is off",
    ),
    "a filter off the list": ("{{ x | urlize }}", "No filter named 'urlize'"),
    "a long program": ("{{ x }}" * 30_000, "has more than 20,000 parts"),
    "a deep program": ("{% if 1 %}" * 500 + "{% endif %}" * 500, "is nested too deeply"),
    "a wide format": ("{{ '%1000000000d' | format(1) }}", "No filter named 'format'"),
    "chance": ("{{ x | random }}", "No filter named 'random'"),
    "other files": ("{% include 'secret.txt' %}", "{% include %} reads other files"),
    "imports": ("{% import 'a' as b %}", "{% import %} reads other files"),
    "parents": ("{% extends 'a' %}", "{% extends %} reads other files"),
    "the answer": ("Is it a {{ label }}?", "'label' is the expected answer"),
    "the answer's default name": ("{% if truth %}x{% endif %}", "'truth' is the expected answer"),
    "unknown part of media": ("{{ media.knd }}", "media.knd is unknown; did you mean kind?"),
    "media as a whole": ("{{ media }}", "media is not text; print media.kind"),
    "nothing": (" \n", "prompts.q: is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_template_is_refused_at_once(case):
    template, wanted = REFUSED[case]
    with pytest.raises(InputError) as caught:
        Prompts({"fine": "x", "q": template, "worse": "{{"}, Columns(truth="label"))
    assert len(caught.value.problems) == 2
    assert wanted in caught.value.problems[0]


def test_answer_is_not_in_the_row_either():
    assert "'dict object' has no attribute 'truth'" in told("{{ row.truth }}", title="x")


# ---- what is bounded ----

GROWING = "{%% set n = namespace(x='aa') %%}{%% for i in range(99) %%}{%% set n.x = %s %%}{%% endfor %%}"
HOSTILE = {
    "out of the sandbox": "{{ ''.__class__.__mro__ }}",
    "out by format": "{{ '{0.__class__}'.format(1) }}",
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "loops over a list": "{% set r = range(999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
    "a long range": "{{ range(100000000) | list | length }}",
    "many sums": "{% for a in range(9999) %}{{ range(9999) | sum }}{% endfor %}",
    "a wide text": "{{ 'x' * 1000000000 }}",
    "a wide list": "{{ [1] * 1000000000 }}",
    "a tower": "{{ 10 ** 100000000 }}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a wide format method": "{{ '{:>1000000000}'.format(1) }}",
    "a wide filter": "{{ title | center(1000000000) }}",
    "a wide indent": "{{ title | indent(1000000000, true) }}",
    "a wide method": "{{ title.ljust(1000000000) }}",
    "doubling by +": GROWING % "n.x + n.x",
    "doubling by ~": GROWING % "n.x ~ n.x",
    "growing by replace": GROWING % "n.x | replace('a', n.x)",
    "growing by a method": GROWING % "n.x.replace('a', n.x)",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "long output": "{% for a in range(40000) %}{{ title }}{{ title }}{{ title }}{{ title }}{% endfor %}",
    "division by zero": "{{ 1 / 0 }}",
}


HOSTILE |= {
    "the budget set": "{% set _steps = [999999999] %}" + HOSTILE["nested loops"],
    "the budget by a filter": "{{ [-999999999] | map('_run') | list }}{{ -999999999 | _run }}"
    + HOSTILE["nested loops"],
    "macros that double": "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n else '' }}{% endmacro %}{{ f(60) }}",
    "a long round": "{{ 1 | round(-1000000000) }}",
    "a large batch": "{{ [1] | batch(1000000000, 'x') | list }}",
    "a wide json": "{{ [[1]] | tojson(indent=1000000000) }}",
    "a translation": "{{ (title * 9999).translate({65: 'b' * 1000000}) }}",
    "a list that extends itself": "{% set l = [1] %}{% for a in range(99) %}{{ l.extend(l) }}{% endfor %}",
    "a list twice in itself": GROWING % "[n.x, n.x]" + "{{ n.x }}",
    "equal lists twice in themselves": GROWING % "[n.x, n.x]" + "{{ n.x == n.x[:] }}",
    "namespaces in each other": GROWING % "namespace(a=n.x, b=n.x)" + "{{ n.x }}",
    "large texts compared": "{% set x = 'x' * 999999 %}{% set y = 'x' * 999999 %}"
    "{% for a in range(99999) %}{% if x == y %}{% endif %}{% endfor %}",
    "large texts in a block": "{% for a in range(99999) %}{% set x %}"
    + "x" * 9999
    + "{% endset %}{% endfor %}",
    "a wide date": "{{ day.strftime('%999999999Y') }}",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_template_is_a_problem_not_a_hang(case):
    assert told(HOSTILE[case], title="A title", day=dt.date(2026, 1, 2)).startswith(
        "pets.csv:7: item 'a': prompts.q: "
    )


def test_prompt_above_a_million_characters_is_refused():
    assert "more than 1,000,000 characters" in told("{{ title }}", title="x" * 1_000_001)
    prompts = Prompts({})
    prompts.render(item(prompt="x" * 1_000_001), CAT)
    with pytest.raises(InputError, match="the row's prompt: has more than 1,000,000 characters"):
        prompts.finish()
