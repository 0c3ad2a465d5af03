"""What is printed cannot steer a terminal, and `--json` loses nothing."""

import io
import json
import logging
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.common.screen import Parser, log_to_stderr, print_json, printable, say
from mavi_tasks.reports.terminal.console import open_console


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("Größe, 猫, 👩‍🔬, עברית, فارسی‌ها", "Größe, 猫, 👩‍🔬, עברית, فارسی‌ها"),
        ("\x1b[31mred", "�[31mred"),
        ("\x9b31mred", "�31mred"),
        ("a\rb\x00c\x7f", "a�b�c�"),
        ("\u202egnp.exe\u202c", "�gnp.exe�"),
        ("\u2066x\u2069", "�x�"),
        ("a\u2028b", "a�b"),
        ("half \udce9", "half �"),
    ],
)
def test_what_a_terminal_obeys_is_replaced_and_all_else_stays(text, shown):
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_no_text_has_control_characters_once_it_is_printable(text):
    left = {c for c in printable(text) if unicodedata.category(c) in ("Cc", "Cs")}
    assert left <= {"\n", "\t"}


def test_a_text_is_cleaned_on_both_streams(capsys):
    say("out \x1b[2J")
    say("err \x1b[2J", stderr=True)
    assert capsys.readouterr() == ("out �[2J\n", "err �[2J\n")


@given(st.text())
def test_json_keeps_every_character_and_prints_none_that_a_terminal_obeys(text):
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", shown)
        print_json({"a": text})
    assert json.loads(shown.getvalue()) == {"a": text}
    assert printable(shown.getvalue()) == shown.getvalue()


def test_an_error_of_the_command_line_is_printable(capsys):
    with pytest.raises(SystemExit):
        Parser(prog="mavi").parse_args(["--\x1b[2J"])
    assert "\x1b" not in capsys.readouterr().err


def test_a_log_line_and_its_traceback_are_printable_whoever_shows_them():
    factory = logging.getLogRecordFactory()
    shown = io.StringIO()
    handler, log = logging.StreamHandler(shown), logging.getLogger("tests.screen")
    log.addHandler(handler)
    log.propagate = False
    try:
        log_to_stderr()
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            log.exception("failed: %s", "\x9bm")
    finally:
        logging.setLogRecordFactory(factory)
        log.removeHandler(handler)
    assert "failed: �m" in shown.getvalue()
    assert "ValueError: �[2J" in shown.getvalue()


def test_on_a_terminal_only_our_own_styles_are_escape_sequences():
    console = open_console()
    console.file, console._force_terminal = io.StringIO(), True
    console.print("\x1b[2Jname\u202e", style="bold red")
    assert re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue()) == "�[2Jname�\n"
