"""Templates that try to hang, to fill the memory or to leave the sandbox: refused, or rendered small.

Each is rendered for one item, and may take 5 s of CPU time and 400 MB.
"""

import time
from functools import partial
from pathlib import Path

from mavi_tasks.errors import InputError
from mavi_tasks.manifest import Item
from mavi_tasks.prompts.templates import MediaView, Prompts
from tests.bench.hostile.case import Case

LONGEST_CPU_S = 5.0
MOST_MB = 400
BIG = 1_000_000_000
LOOP = "{% for i in range(99999) %}"
END = "{% endfor %}"
X_MB = "{% set x = 'x' * 1000000 %}"
GROWING = (
    "{%% set n = namespace(x='aa', l=[1, 1]) %%}{%% for i in range(99) %%}{%% set n.%s = %s %%}{%% endfor %%}"
)
DOUBLE = GROWING % ("l", "[n.l, n.l]")

OF_TEXT = {
    "times": f"{{{{ 'x' * {BIG} }}}}",
    "times from the left": f"{{{{ {BIG} * 'x' }}}}",
    "times a list": f"{{{{ [1] * {BIG} }}}}",
    "times twice": "{{ ('x' * 1000000) * 1000000 }}",
    "power": f"{{{{ 10 ** {BIG} }}}}",
    "power of a power": "{{ 9 ** 9 ** 9 ** 9 }}",
    "percent width": f"{{{{ '%{BIG}d' % 1 }}}}",
    "percent star": f"{{{{ '%*d' % ({BIG}, 1) }}}}",
    "format method": f"{{{{ '{{:>{BIG}}}'.format(1) }}}}",
    "format_map": f"{{{{ '{{a:>{BIG}}}'.format_map({{'a': 1}}) }}}}",
    "format filter": f"{{{{ '%{BIG}d' | format(1) }}}}",
    "translate": "{{ ('a' * 1000000).translate({97: 'b' * 1000000}) }}",
    "maketrans": "{{ ('a' * 9999).translate(''.maketrans({'a': 'b' * 1000000})) }}",
    "expandtabs": f"{{{{ ('\\t' * 999999).expandtabs({BIG}) }}}}",
    "encode": "{{ ('a' * 999999).encode('utf-32') }}",
    "replace filter": X_MB + "{{ x | replace('x', x) }}",
    "replace method": X_MB + "{{ x.replace('x', x) }}",
    "replace of nothing": X_MB + "{{ x | replace('', x) }}",
    "join filter": X_MB + "{{ range(99999) | join(x) }}",
    "join method": X_MB + "{{ x.join(x) }}",
    "join of large texts": X_MB + "{{ [x, x, x] * 30000 | int | join }}",
    "tojson indent": f"{{{{ [[1]] | tojson(indent={BIG}) }}}}",
    "tojson indent of text": X_MB + "{{ [[1], [2]] | tojson(indent=x) }}",
    "tojson deep": "{% set n = namespace(l=[1]) %}{% for i in range(900) %}{% set n.l = [n.l] %}{% endfor %}"
    "{{ n.l | tojson(indent=8) }}",
    "indent by text": X_MB + "{{ ('a\\n' * 99999) | indent(x) }}",
    "indent of lines": "{{ ('a\\n' * 400000) | indent(99999) }}",
    "urlencode": "{{ ('ä' * 999999) | urlencode }}",
    "escape": "{{ ('<' * 999999) | escape | escape | escape }}",
    "striptags": "{{ ('<!---->' * 130000) | striptags }}",
    "strip of everything": X_MB + "{{ x.strip('y' * 999999 ~ 'x') }}",
    "trim of everything": "{{ ('x' * 999999) | trim('y' * 999999) }}",
    "find from the end": "{{ ('a' * 999999).rfind('b' ~ 'a' * 499999) }}",
    "wordwrap": X_MB + "{{ x | wordwrap(1) }}",
    "urlize": "{{ ('www.a.b ' * 99999) | urlize }}",
    "xmlattr": X_MB + "{{ {'a': x} | xmlattr }}",
    "pprint": DOUBLE + "{{ n.l | pprint }}",
    "doubling plus": GROWING % ("x", "n.x + n.x"),
    "doubling tilde": GROWING % ("x", "n.x ~ n.x"),
    "doubling replace": GROWING % ("x", "n.x | replace('a', n.x)"),
    "doubling set block": "{% set n = namespace(x='aa') %}{% for i in range(99) %}"
    "{% set y %}{{ n.x }}{{ n.x }}"
    "{% endset %}{% set n.x = y %}{% endfor %}",
    "set block of text": LOOP + "{% set y %}" + "x" * 50_000 + "{% endset %}" + END,
    "long set block": "{% set y %}" + LOOP + "x" * 50_000 + END + "{% endset %}{{ y }}",
    "filter block": "{% filter upper %}" + LOOP + "x" * 50_000 + END + "{% endfilter %}",
    "long output": LOOP + "x" * 50_000 + END,
    "large prints": X_MB + "{% set y %}" + "{{ x }}" * 5_000 + "{% endset %}",
    "slices": X_MB + LOOP + "{% if x[1:][1:][1:][1:] %}{% endif %}" + END,
    "comparisons": X_MB + "{% set y = 'x' * 1000000 %}" + LOOP + "{% if x == y %}{% endif %}" + END,
    "looking for": X_MB + LOOP + "{% if 'xy' in x %}{% endif %}" + END,
    "counting": X_MB + LOOP + "{% set y = x.count('xx') %}" + END,
    "splitting": X_MB + LOOP + "{% set y = x.split('x') %}" + END,
    "upper": X_MB + LOOP + "{% set y = x | upper %}" + END,
    "upper methods": X_MB + LOOP + "{% set y = x.upper() %}" + END,
    "straight line": X_MB + "{% if 'xy' in x %}{% endif %}" * 4_000,
    "year width": "{{ day.strftime('%999999999Y') }}",
    **{
        f"{name} filter": f"{{{{ 'x' | {name}({BIG}) }}}}"
        for name in ("center", "indent", "truncate", "wordwrap", "batch", "slice")
    },
    **{
        f"{name} method": f"{{{{ 'x'.{name}({BIG}) }}}}"
        for name in ("center", "ljust", "rjust", "zfill", "expandtabs")
    },
}
OF_NUMBERS = {
    "round": f"{{{{ 1 | round(-{BIG}) }}}}",
    "round up": f"{{{{ 1.5 | round({BIG}, 'ceil') }}}}",
    "round down": f"{{{{ 7 | round({BIG}, 'floor') }}}}",
    "hexadecimal": "{{ ('f' * 999999) | int(0, 16) % 7 }}",
    "hexadecimal squares": GROWING % ("x", "('f' * 900000) | int(0, 16) * 3"),
    "squares": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "range": f"{{{{ range({BIG}) | list | length }}}}",
    "range of ranges": LOOP + "{% for j in range(99999) %}{% endfor %}" + END,
    "range sums": LOOP + "{{ range(9999) | sum }}" + END,
    "huge range": "{{ range(10 ** 300) | length }}",
}
OF_LISTS = {
    "doubling printed": DOUBLE + "{{ n.l }}",
    "doubling as text": DOUBLE + "{{ n.l | string }}",
    "doubling as json": DOUBLE + "{{ n.l | tojson }}",
    "doubling compared": DOUBLE + "{% set m = n.l %}" + DOUBLE + "{{ n.l == m }}",
    "doubling mappings": GROWING % ("l", "{'a': n.l, 'b': n.l}") + "{{ n.l }}",
    "doubling tuples": GROWING % ("l", "(n.l, n.l)") + "{{ n.l | string }}",
    "doubling dict()": GROWING % ("l", "dict(a=n.l, b=n.l)") + "{{ n.l | string }}",
    "doubling namespaces": GROWING % ("l", "namespace(a=n.l, b=n.l)") + "{{ n.l }}",
    "doubling namespaces as text": GROWING % ("l", "namespace(a=n.l, b=n.l)") + "{{ n.l | string }}",
    "namespace in itself": "{% set n = namespace() %}{% set n.n = n %}{{ n }}{{ [n] }}{{ n | string }}",
    "doubling cyclers": GROWING % ("l", "cycler(n.l, n.l)") + "{{ n.l }}",
    "adding lists": GROWING % ("l", "n.l + n.l") + "{{ n.l }}",
    "list of large texts": X_MB + "{{ [x] * 99999 }}",
    "sum of lists": "{{ ([[1]] * 90000) | sum(start=[]) | length }}",
    "extend": "{% set l = [1] %}" + LOOP + "{% set _ = l.extend(l) %}" + END,
    "append": "{% set l = [1] %}" + LOOP + "{% set _ = l.append(l) %}" + END + "{{ l }}",
    "update": "{% set d = {} %}" + LOOP + "{% set _ = d.update({i: d}) %}" + END + "{{ d }}",
    "setdefault": "{% set _ = row.setdefault('a', 'x' * 1000000) %}{{ row }}",
    "batch of loops": LOOP + "{{ [1] | batch(9999, 'x') | list | length }}" + END,
    "slice of loops": LOOP + "{{ [1] | slice(9999) | list | length }}" + END,
    "sorted loops": "{% set l = range(9999) | list %}" + LOOP + "{% set m = l | sort %}" + END,
    "mapped loops": "{% set l = range(9999) | list %}"
    + LOOP
    + "{% set m = l | map('string') | list %}"
    + END,
    "grouped loops": "{% set l = range(9999) | list %}" + LOOP + "{% set m = l | groupby('real') %}" + END,
    "selected": "{% set l = range(9999) | list %}{{ l | select('in', l) | list | length }}",
    "mapped large": X_MB + "{{ range(9999) | map('center', 999999) | list }}",
    "mapped budget": LOOP
    + "{% set m = [-99999] | map('_run') | list %}"
    + "{% set q = range(9999) | list %}"
    + END,
    "tuple loops": "{% for a in x999 %}{% for b in x999 %}{% for c in x999 %}" + END * 3,
    "filtered loops": "{% for a in range(9999) if a in range(9999) | list %}{% endfor %}",
    "cheap bodies": LOOP + "{% if row.title %}{% endif %}" * 3_000 + END,
    "unpacked arguments": "{{ cycler(*range(99999)) }}" * 50,
}
OF_CODE = {
    "macro in itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro doubling": "{% macro f(n) %}{% if n %}{% set a = f(n-1) %}{% set b = f(n-1) %}{% endif %}"
    "{% endmacro %}"
    "{{ f(60) }}",
    "macro doubling text": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% else %}xx{% endif %}"
    "{% endmacro %}"
    "{{ f(60) }}",
    "macro of large prints": X_MB
    + "{% macro f() %}"
    + "{{ x }}" * 999
    + "{% endmacro %}{% set y = f() ~ f() %}",
    "macros in a row": "".join(
        f"{{% macro f{n}() %}}{f'{{{{ f{n - 1}() }}}}' * 10 if n else 'x'}{{% endmacro %}}" for n in range(12)
    )
    + "{{ f11() }}",
    "recursive loop": "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "recursive loop doubling": "{% for a in [1, 1] recursive %}{% set x = loop([1, 1]) %}{% endfor %}",
    "call block": "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
    "block in itself": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "budget set": "{% set _steps = [999999999999] %}"
    + LOOP
    + "{% for j in range(99999) %}{% endfor %}"
    + END,
    "budget as a mapping": "{% set _steps = {0: 999999999999} %}" + LOOP + LOOP + END + END,
    "budget in a loop": "{% for _steps in [[999999999999]] %}" + LOOP + LOOP + END + END + END,
    "budget with": "{% with _steps = [999999999999] %}" + LOOP + LOOP + END + END + "{% endwith %}",
    "budget by name": "{{ _steps.append(9) }}{{ _left }}{{ LEFT }}",
    "budget called": "{% set _ = -99999999 | _run %}" + LOOP + LOOP + END + END,
    "range replaced": "{% set range = 5 %}{{ [1] * 99999999 }}",
    "lipsum": "{{ lipsum(n=9999999) }}",
    "deep brackets": "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "deep lists": "{{ " + "[" * 3_000 + "]" * 3_000 + " }}",
    "deep ifs": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "deep loops": "{% for a in [1] %}" * 60 + "{% endfor %}" * 60,
    "deep filters": "{{ 1" + " | abs" * 5_000 + " }}",
    "deep sums": "{{ 1" + " + 1" * 20_000 + " }}",
    "many prints": "{{ title }}" * 90_000,
}
OUT = {
    "class": "{{ ''.__class__.__mro__ }}",
    "class by filter": "{{ '' | attr('__class__') }}",
    "class by map": "{{ [''] | map(attribute='__class__') | list }}",
    "class by item": "{{ ''['__class__'] }}",
    "globals of range": "{{ range.__globals__ }}",
    "globals of cycler": "{{ cycler.__init__.__globals__ }}",
    "globals of a macro": "{% macro f() %}{% endmacro %}{{ f.__globals__ }}{{ f._func.__code__ }}",
    "context": "{{ self._TemplateReference__context }}",
    "environment": "{{ loop.__init__ }}{% for a in [1] %}{{ loop._iterable }}{% endfor %}",
    "format of a class": "{{ '{0.__class__}'.format(1) }}",
    "sorted by a class": "{{ [1] | sort(attribute='__class__') }}",
    "undefined": "{{ nothing.__init__.__globals__ }}",
}  # fmt: skip


def attempt(template: str, leaks: bool, _: Path) -> str | None:
    import datetime as dt

    variables = {"title": "A title", "day": dt.date(2026, 1, 1), "x999": list(range(999))}
    item = Item("a", ("https://a.example/a.jpg",), None, None, variables, "a.csv:1")
    started, text = time.process_time(), ""
    try:
        prompts = Prompts({"q": template})
        texts = prompts.render(item, MediaView("image", "a.jpg", "https://a.example/a.jpg", 1))
        text = texts[0][1] if texts else ""
        prompts.finish()
    except InputError:
        pass
    took_s = time.process_time() - started
    if took_s > LONGEST_CPU_S:
        return f"took {took_s:.1f} s of CPU time"
    leaked = leaks and any(word in text for word in ("class", "object", "function", "<", "0x"))
    return f"rendered {text[:80]!r}" if leaked else None


CASES = [
    Case(name, partial(attempt, template, cases is OUT), longest_s=30, most_mb=MOST_MB)
    for cases in (OF_TEXT, OF_NUMBERS, OF_LISTS, OF_CODE, OUT)
    for name, template in cases.items()
]
