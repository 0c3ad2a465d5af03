"""A job file that is hostile, or only odd, is told in words, quickly, with its line."""

import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.job import job_of, load_job

HEAD = "manifest: m.csv\nmodels: [gemini:gemini-2.5-flash]\nprompts: hi\n"
FAR = "must be dollars, for example 5.00"
NO_DATE = "must be a date (2026-11-22), an instant"

ODD = {
    "deep": ("params: " + "{a: " * 300 + "1" + "}" * 300, "is nested more than 100 levels deep"),
    "very deep": ("params: " + "[" * 100_000, "exceeded maximum nesting depth"),
    "deep by aliases": (
        "x0: &x0 [1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}]\n" for n in range(1, 200)),
        "is nested more than 100 levels deep",
    ),
    "money of a billion digits": ("budget_usd: 1e999999999", f"job.yaml:4: budget_usd: '1e999999999' {FAR}"),
    "money of an infinity": ("budget_usd: 1.0e+999", f"job.yaml:4: budget_usd: inf {FAR}"),
    "a price of a billion digits": (
        "prices: {'gemini:x': {input_usd_per_mtok: '1e999999999', output_usd_per_mtok: 1}}",
        f"prices.gemini:x.input_usd_per_mtok: '1e999999999' {FAR}",
    ),
    "since october": ("since: october", f"job.yaml:4: since: 'october' {NO_DATE}"),
    "an endless age": ("since: 99999999999d", f"since: '99999999999d' {NO_DATE}"),
    "an endless ISO age": ("since: P99999999999D", f"since: 'P99999999999D' {NO_DATE}"),
    "an age of 2,700 years": ("since: 999999d", "since: '999999d' must be an age of at most 36500d"),
    "an age of 400 digits": (f"since: '{'9' * 400}d'", NO_DATE),
    "a whole number that is none": ("limit: !!int ''", "job.yaml:4: '' cannot be read"),
    "a truth that is none": ("repair: !!bool perhaps", "job.yaml:4: 'perhaps' cannot be read"),
    "a date that is none": ("since: !!timestamp x", "job.yaml:4: 'x' cannot be read"),
    "a fraction that is none": ("limit: !!float ''", "job.yaml:4: '' cannot be read"),
    "a number of a hundred thousand digits": (f"limit: {'9' * 100_000}", "job.yaml:4: '9999"),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_job_is_told_in_words(tmp_path, case):
    text, wanted = ODD[case]
    (tmp_path / "m.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
    (tmp_path / "job.yaml").write_text(HEAD + text)
    with pytest.raises(InputError) as told:
        load_job(tmp_path / "job.yaml")
    assert wanted in str(told.value)
    assert len(str(told.value)) < 2000


def job(tmp_path, model, **fields):
    (tmp_path / "m.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
    return job_of(manifest=str(tmp_path / "m.csv"), models=[model], prompt="hi", **fields)


def test_a_model_that_nobody_knows_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(InputError, match="no such model; did you mean gemini:gemini-2"):
        job(tmp_path, "gemini:gemini-2.5-flahs")


def test_an_unknown_model_passes_with_a_price_or_when_told(tmp_path):
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    assert job(tmp_path, "gemini:my-own", prices={"gemini:my-own": price})
    assert job(tmp_path, "gemini:my-own", allow_unknown_model=True)


def test_models_of_a_server_of_ones_own_need_no_price(tmp_path):
    own = {"base_url": "http://127.0.0.1:9/v1", "dialect": "openai"}
    assert job(tmp_path, "openai:whatever", gateway=own)


def test_a_job_has_no_more_models_than_can_be_asked(tmp_path):
    with pytest.raises(InputError, match="has 501 models; at most 500 are asked in one job"):
        job_of(manifest=str(tmp_path), models=[f"gemini:m{n}" for n in range(501)], prompt="hi")
