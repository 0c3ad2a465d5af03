"""Answer schemas and answers that are made to be hard to check: refused, or told in bounded time.

The event loop may be kept 0.25 s (CPU time) for one answer, a thread 3 s, with 500 MB.
"""

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mavi_tasks.labels import looks_truncated, read_answer, read_at_once, schema_problem
from tests.bench.hostile.case import Case

LOOP_S, THREAD_S, MOST_MB = 0.25, 3.0, 500
Schema = Mapping[str, Any]

PATTERNS = {
    "nested plus": ("^(a+)+$", "a" * 60 + "!"),
    "same choices": ("^(a|a)*$", "a" * 60 + "!"),
    "overlapping choices": ("^(a|aa)+$", "a" * 60 + "!"),
    "three stars": ("(.*)*(.*)*(.*)*x$", "a" * 60),
    "words": (r"^(\w+\s?)*$", "word " * 20 + "!"),
    "mail": (r"^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}$", "a" * 60),
    "spaces at the end": (r"\s+$", " " * 300_000 + "x"),
    "large repeat": ("^(.?){1000}$", "a" * 900_000),
    "repeats of repeats": ("((a{1,30}){1,30})$", "a" * 900_000 + "b"),
    "many states": ("[ab]*b[ab]{500}c", "abbab" * 180_000),
    "large program": ("([a-z]|[b-y]|[c-x]){900}9", "abba" * 240_000),
    "back-reference": (r"^(a+)+\1$", "a" * 60),
    "lookahead": ("^(?=(a+)+$)", "a" * 60 + "!"),
    "recursion": ("(?R)", "a"),
    "no pattern": ("(", "a"),
}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def of_pattern(pattern: str, text: str) -> tuple[Schema, str]:
    return an_object(a={"pattern": pattern}), json.dumps({"a": text})


def doubling(levels: int, keyword: str = "allOf", **last: Any) -> Schema:
    definitions = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"type": "object", "$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": last}}


def tree(keyword: str, **part: Any) -> Schema:
    """A schema that goes into `c` in three ways at each level."""
    inside = {"properties": {"c": {"$ref": "#/$defs/node"}}}
    node = {keyword: [{**inside, **part, "required": [name]} for name in "cde"]}
    return {"type": "object", "$ref": "#/$defs/node", "$defs": {"node": node}}


def deep(levels: int) -> Schema:
    schema: Schema = {"type": "object"}
    for _ in range(levels):
        schema = an_object(c=schema)
    return schema


LIST_OF = {"type": "array"}
NESTED = '{"c":' * 60 + "{}" + "}" * 60
ZEROS = '{"a":[' + "0," * 400_000 + "0]}"
OBJECTS = json.dumps({"a": [{"n": n, "m": [n]} for n in range(20_000)]})
NAMES = json.dumps({f"name {n}": n for n in range(50_000)})
ONE_HASH = json.dumps({"a": [n * (2**61 - 1) for n in range(40_000)]})
DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^(a+)+$"}
A60 = json.dumps({"a": "a" * 60 + "!"})

SCHEMAS: dict[str, tuple[Schema, str]] = {
    "2**40 allOf": (doubling(40, minProperties=2), '{"a":1,"b":2}'),
    "2**40 anyOf": (doubling(40, "anyOf", minProperties=2), "{}"),
    "2**40 oneOf": (doubling(40, "oneOf", minProperties=2), "{}"),
    "2**15 allOf": (doubling(15, minProperties=2), '{"a":1,"b":2}'),
    "tree anyOf": (tree("anyOf"), NESTED),
    "tree oneOf": (tree("oneOf"), NESTED),
    "tree allOf": (tree("allOf"), NESTED),
    "tree not": (tree("anyOf", **{"not": {"properties": {"c": {"$ref": "#/$defs/node"}}}}), NESTED),
    "tree if": (tree("anyOf", **{"if": {"$ref": "#"}, "then": {}}), NESTED),
    "itself": ({"type": "object", "$ref": "#"}, "{}"),
    "itself by two": ({"type": "object", "allOf": [{"anyOf": [{"$ref": "#"}]}]}, "{}"),
    "chain of references": (
        {
            "type": "object",
            "$ref": "#/$defs/0",
            "$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(3000)},
        },
        "{}",
    ),
    "deep schema": (deep(5000), NESTED),
    "wide schema": (an_object(**{f"p{n}": {"type": "string"} for n in range(20_000)}), NAMES),
    "many keywords": ({"type": "object", **{f"x-{n}": {} for n in range(50_000)}}, "{}"),
    "many required": (an_object(a={"items": {"required": [str(n) for n in range(50_000)]}}), OBJECTS),
    "many dependencies": (
        an_object(a={"items": {"dependentRequired": {"n": [str(n) for n in range(50_000)]}}}),
        OBJECTS,
    ),
    "many choices": (an_object(a={"items": {"enum": list(range(50_000))}}), ZEROS),
    "large choices": (an_object(a={"items": {"enum": [[n] * 50 for n in range(1000)]}}), OBJECTS),
    "many parts of choices": (an_object(a={"items": {"anyOf": [{"const": n} for n in range(900)]}}), OBJECTS),
    "remote reference": ({"type": "object", "$ref": "http://127.0.0.1:9/x.json"}, "{}"),
    "dialect inside": (an_object(a=DIALECT), A60),
    "dialect at the top": ({**DIALECT, **an_object(a={"pattern": "^(a+)+$"})}, A60),
    "place inside": (an_object(a={"$id": "https://a.example/", "pattern": "^(a+)+$"}), A60),
    "reference into values": (
        {"type": "object", "default": {"a": DIALECT}, "properties": {"a": {"$ref": "#/default/a"}}},
        A60,
    ),
    "dynamic reference": ({"type": "object", "$dynamicAnchor": "a", "$dynamicRef": "#a"}, "{}"),
    "unevaluated items": (an_object(a={"prefixItems": [{}], "unevaluatedItems": {"type": "null"}}), ZEROS),
    "unevaluated properties": ({"type": "object", "unevaluatedProperties": {"type": "null"}}, NAMES),
    "patterns of names": (
        {"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
        json.dumps({"a" * 60 + f"!{n}": n for n in range(3000)}),
    ),
    "many patterns of names": (
        {"type": "object", "patternProperties": {f"^{n}$": {} for n in range(2000)}},
        NAMES,
    ),
}
ANSWERS: dict[str, tuple[Schema, str]] = {
    "unique objects": (an_object(a={**LIST_OF, "uniqueItems": True}), OBJECTS),
    "unique numbers of one hash": (an_object(a={**LIST_OF, "uniqueItems": True}), ONE_HASH),
    "unique deep lists": (
        an_object(a={"uniqueItems": True}),
        '{"a":[' + ",".join(["[" * 50 + "]" * 50] * 9000) + "]}",
    ),
    "choices of one hash": (an_object(a={"items": {"enum": [0, 1, 2]}}), ONE_HASH),
    "a list of zeros": (an_object(a={"items": {}}), ZEROS),
    "zeros sixteen times": (an_object(a={"allOf": [{"items": {}}] * 16}), ZEROS),
    "zeros contained": (an_object(a={"allOf": [{"contains": {"type": "null"}}] * 16}), ZEROS),
    "misfits under choices": (an_object(a={"anyOf": [{"items": {"type": "null"}}] * 9}), ZEROS),
    "large misfits": (
        an_object(a={"anyOf": [{"type": "null", "title": str(n)} for n in range(900)]}),
        OBJECTS,
    ),
    "many names": ({"type": "object", "additionalProperties": {"type": "null"}}, NAMES),
    "names of names": ({"type": "object", "propertyNames": {"maxLength": 2}}, NAMES),
    "many objects": (an_object(n={"anyOf": [{"minimum": 9}] * 900}), '{"n": 1} ' * 100_000),
    "many starts": (an_object(n={"type": "null"}), '{"n": ' * 150_000),
    "deep answer": (an_object(c={"$ref": "#"}), '{"c":' * 200_000 + "1" + "}" * 200_000),
    "empty lists": (an_object(a={}), '{"a":[' + "[]," * 300_000 + "[]]}"),
    "a long text": (an_object(a={"pattern": "x$"}), json.dumps({"a": "y" * 900_000})),
    "eight million characters": (an_object(a={}), '{"a":"' + "x" * 8_000_000 + '"}'),
    "eight million lists": (an_object(a={}), '{"a":[' + "[]," * 2_700_000 + "[]]}"),
    "huge numbers": (an_object(a={"multipleOf": 0.5}), '{"a":1' + "0" * 4000 + "}"),
    "tiny multiples": (an_object(a={"items": {"multipleOf": 5e-324}}), '{"a":[' + "1e308," * 9000 + "1]}"),
    "lone surrogates": (an_object(a={"pattern": "^.$"}), '{"a":"\\ud800"}'),
}


def attempt(schema: Schema, text: str, _: Path) -> str | None:
    started = time.process_time()
    refused = schema_problem(schema)
    if (took_s := time.process_time() - started) > THREAD_S:
        return f"the schema took {took_s:.1f} s"
    if refused:
        return None
    started = time.process_time()
    checked = read_at_once(text, schema)
    if (took_s := time.process_time() - started) > LOOP_S:
        return f"kept the loop {took_s:.2f} s"
    started = time.process_time()
    checked = checked or read_answer(text, schema)
    looks_truncated(text, 9, 10, True)
    if (took_s := time.process_time() - started) > THREAD_S:
        return f"took {took_s:.1f} s"
    return None if checked.error or checked.json_text else "neither an answer nor a reason"


CASES = [
    Case(f"{kind}: {name}", partial(attempt, schema, text), most_mb=MOST_MB)
    for kind, cases in (
        ("pattern", {name: of_pattern(*case) for name, case in PATTERNS.items()}),
        ("schema", SCHEMAS),
        ("answer", ANSWERS),
    )
    for name, (schema, text) in cases.items()
]
