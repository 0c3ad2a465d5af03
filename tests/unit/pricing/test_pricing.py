"""What completions cost: every tier edge by hand, every row as published, nothing guessed."""

import json
import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.common.money import PriceError, pico, usd
from mavi_tasks.errors import InputError
from mavi_tasks.pricing import book as pricing
from mavi_tasks.pricing.book import Cost, load_prices
from tests.support.gateways import REPOSITORY

TODAY = date(2026, 11, 22)
PUBLISHED = json.loads((REPOSITORY / "tests/support/wire/prices.json").read_text("utf-8"))

# (input tokens, dollars with 1000 output tokens), typed by hand from the pages' price tables
GEMINI_3_PRO = [(199_999, "0.411998"), (200_000, "0.412"), (200_001, "0.818004")]
GEMINI_25_PRO = [(199_999, "0.25999875"), (200_000, "0.26"), (200_001, "0.5150025")]
QWEN_PLUS = [
    (31_999, "0.00839979"),
    (32_000, "0.0084"),
    (32_001, "0.01244031"),
    (127_999, "0.04219969"),
    (128_000, "0.0422"),
    (128_001, "0.08567063"),
    (255_999, "0.16630937"),
    (256_000, "0.16631"),
    (256_001, "0.16631063"),  # above the printed bound: the last tier
    (260_096, "0.16889048"),  # the longest input the provider takes
]
QWEN_FLASH = [
    (31_999, "0.002083948"),
    (32_000, "0.002084"),
    (32_001, "0.003158079"),
    (127_999, "0.010741921"),
    (128_000, "0.010742"),
    (128_001, "0.017138126"),
    (255_999, "0.033265874"),
    (256_000, "0.033266"),
    (256_001, "0.033266126"),
]
EDGES = {
    "gemini:gemini-3-pro-preview": GEMINI_3_PRO,
    "gemini:gemini-2.5-pro": GEMINI_25_PRO,
    "qwen:qwen3-vl-plus": QWEN_PLUS,
    "qwen:qwen3-vl-plus-2025-12-19": QWEN_PLUS,
    "qwen:qwen3-vl-plus-2025-09-23": QWEN_PLUS,
    "qwen:qwen3-vl-flash": QWEN_FLASH,
    "qwen:qwen3-vl-flash-2025-10-15": QWEN_FLASH,
}

ONE_TIER = [
    ("gemini:gemini-2.5-flash", 16_983, 37, "0.0051874"),  # 16983*0.3/1e6 + 37*2.5/1e6
    ("gemini:gemini-2.0-flash-lite", 1, 1, "0.000000375"),
    ("gemini:gemini-3-flash-preview", 1_000_000, 1_000_000, "3.5"),
    ("qwen:qwen-vl-max", 1_000, 1_000, "0.00419"),
    ("qwen:qwen-vl-plus-2025-01-25", 1_000, 1_000, "0.00088"),
    ("nova:us.amazon.nova-lite-v1:0", 739, 207, "0.00009402"),  # 0.00004434 + 0.00004968
    ("nova:us.amazon.nova-premier-v1:0", 1_000_000, 1_000_000, "15"),
    ("nova:us.amazon.nova-2-lite-v1:0", 100, 100, "0.000308"),
    ("gpt:gpt-4o", 447, 112, "0.0022375"),  # 0.0011175 + 0.00112
    ("gpt:gpt-5-nano", 3, 7, "0.00000295"),
    ("gpt:o1", 1_000, 1_000, "0.075"),
    ("gpt:gpt-4o-mini", 0, 0, "0"),
]


def dollars(model, input_tokens, output_tokens):
    return usd(load_prices().price(model, TODAY).cost(input_tokens, output_tokens).total_pico)


@pytest.mark.parametrize(
    ("model", "input_tokens", "expected"),
    [(model, tokens, expected) for model, edges in EDGES.items() for tokens, expected in edges],
)
def test_every_tier_edge_costs_what_the_page_says(model, input_tokens, expected):
    assert dollars(model, input_tokens, 1_000) == Decimal(expected)


@pytest.mark.parametrize(("model", "input_tokens", "output_tokens", "expected"), ONE_TIER)
def test_models_of_every_family_cost_what_the_page_says(model, input_tokens, output_tokens, expected):
    assert dollars(model, input_tokens, output_tokens) == Decimal(expected)


def test_every_tiered_model_has_its_edges_tested():
    tiered = {f"{row['family']}:{row['model']}" for row in PUBLISHED if len(row["tiers"]) > 1}
    assert tiered == set(EDGES)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row['family']}:{row['model']}")
def test_every_published_row_is_kept_to_the_digit(row):
    price = load_prices().price(f"{row['family']}:{row['model']}", TODAY)
    assert price.source == "seed"
    assert price.checked == date(2026, 11, 22)
    assert price.starts is None
    assert f"{price.endpoint}/chat/completions" == row["endpoint"]
    for tier, published in zip(price.tiers, row["tiers"], strict=False):
        assert tier.up_to_input_tokens == published["up_to_input_tokens"]
        assert tier.input_pico_per_token == Decimal(published["input_usd_per_1m"]) * 10**6
        assert tier.output_pico_per_token == Decimal(published["output_usd_per_1m"]) * 10**6


def test_there_are_sixty_rows_of_seventy_two_tiers():
    data = tomllib.loads(Path(pricing.__file__).with_name("prices.toml").read_text("utf-8"))
    assert len(data["price"]) == len(PUBLISHED) == 60
    assert sum(len(row["tiers"]) for row in data["price"]) == 72


def test_every_row_and_retirement_names_a_source_that_is_described():
    data = tomllib.loads(Path(pricing.__file__).with_name("prices.toml").read_text("utf-8"))
    used = {row["source"] for row in [*data["price"], *data["retirement"]]}
    assert used == set(data["source"])


def test_price_id_tells_model_source_day_and_tier():
    pro = load_prices().price("gemini:gemini-2.5-pro", TODAY)
    assert pro.cost(200_000, 1).price_id == "gemini:gemini-2.5-pro@seed-2026-11-22<=200000"
    assert pro.cost(200_001, 1).price_id == "gemini:gemini-2.5-pro@seed-2026-11-22>200000"
    qwen = load_prices().price("qwen:qwen3-vl-plus", TODAY)
    assert qwen.cost(256_000, 1).price_id == "qwen:qwen3-vl-plus@seed-2026-11-22<=256000"
    assert qwen.cost(256_001, 1).price_id == "qwen:qwen3-vl-plus@seed-2026-11-22>256000"
    assert load_prices().price("gpt:gpt-4o", TODAY).cost(1, 1).price_id == "gpt:gpt-4o@seed-2026-11-22"


def test_unknown_model_has_no_price():
    assert load_prices().price("gpt:gpt-9", TODAY) is None
    assert load_prices().price("gpt-4o", TODAY) is None


def test_unknown_tokens_give_an_unknown_total_never_zero():
    flat = load_prices().price("gpt:gpt-4o", TODAY)
    assert flat.cost(1_000, None) == Cost(2_500_000_000, None, None, "gpt:gpt-4o@seed-2026-11-22")
    assert flat.cost(None, 1_000) == Cost(None, 10_000_000_000, None, "gpt:gpt-4o@seed-2026-11-22")
    tiered = load_prices().price("gemini:gemini-2.5-pro", TODAY)
    assert tiered.cost(None, 1_000) == Cost(None, None, None, "gemini:gemini-2.5-pro@seed-2026-11-22")
    assert tiered.cost(300_000, None).input_pico == 750_000_000_000
    assert tiered.cost(None, None).total_pico is None


def test_negative_tokens_are_an_error():
    with pytest.raises(PriceError, match="must be 0 or more"):
        load_prices().price("gpt:gpt-4o", TODAY).cost(-1, 0)
    with pytest.raises(PriceError, match="must be 0 or more"):
        load_prices().price("gpt:gpt-4o", TODAY).cost(None, -1)


def test_worst_case_is_the_cost_at_the_bounds():
    price = load_prices().price("gemini:gemini-2.5-pro", TODAY)
    assert usd(price.max_cost_pico(200_001, 1_000)) == Decimal("0.5150025")
    assert usd(price.max_cost_pico(0, 1_000)) == Decimal("0.01")


def test_worst_case_looks_at_every_tier_that_the_input_can_fall_into():
    tiers = [
        {"up_to_input_tokens": 10, "input_usd_per_mtok": "2", "output_usd_per_mtok": "20"},
        {"input_usd_per_mtok": "1", "output_usd_per_mtok": "1"},
    ]
    price = load_prices({"openai:llama": {"tiers": tiers}}).price("openai:llama", TODAY)
    assert price.max_cost_pico(11, 5) == 120_000_000  # ten in and five out at the dearer, lower tier


@given(
    st.sampled_from(sorted(EDGES) + [row[0] for row in ONE_TIER]),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**6)), max_size=20),
)
def test_sums_are_exact_and_never_over_the_worst_case(model, calls):
    price = load_prices().price(model, TODAY)
    costs = [price.cost(*call) for call in calls]
    assert sum(c.total_pico for c in costs) == sum(c.input_pico for c in costs) + sum(
        c.output_pico for c in costs
    )
    assert sum((usd(c.total_pico) for c in costs), Decimal(0)) == usd(sum(c.total_pico for c in costs))
    assert all(price.max_cost_pico(*call) >= cost.total_pico for call, cost in zip(calls, costs, strict=True))


@given(st.integers(-(10**30), 10**30))
def test_dollars_and_pico_dollars_go_both_ways_without_loss(amount):
    assert pico(usd(amount)) == amount


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 10**12), ("0.000000000001", 1), ("5.00", 5 * 10**12), ("-2", -2 * 10**12)]
)
def test_pico_reads_dollars(text, expected):
    assert pico(text) == expected


@pytest.mark.parametrize("value", ["0.0000000000001", "NaN", "inf", "", "five", True, None, "1e999999"])
def test_pico_refuses_what_it_cannot_keep_exactly(value):
    with pytest.raises(PriceError, match="dollars"):
        pico(value)


# ---- dated rows ----


def prices_file(tmp_path, text):
    path = tmp_path / "prices.toml"
    path.write_text(text, "utf-8")
    return path


DATED = """
[[price]]
family = "gpt"
model = "gpt-4o"
checked = 2026-11-22
source = "page"
tiers = [{input_usd_per_mtok = "2", output_usd_per_mtok = "4"}]
[[price]]
family = "gpt"
model = "gpt-4o"
checked = 2027-01-05
source = "page"
from = 2027-01-01
tiers = [{input_usd_per_mtok = "1", output_usd_per_mtok = "3"}]
"""


def test_the_row_in_force_on_the_day_is_taken(tmp_path):
    dated = load_prices(prices_file(tmp_path, DATED))
    before = dated.price("gpt:gpt-4o", date(2026, 12, 31))
    after = dated.price("gpt:gpt-4o", date(2027, 1, 1))
    assert before.cost(1, 0).total_pico == 2_000_000
    assert after.cost(1, 0).total_pico == 1_000_000
    assert before.price_id == "gpt:gpt-4o@page-2026-11-22"
    assert after.price_id == "gpt:gpt-4o@page-2027-01-05,from-2027-01-01"


def test_a_price_that_has_not_come_is_unknown(tmp_path):
    later = DATED[DATED.index("[[price]]", 20) :]
    assert load_prices(prices_file(tmp_path, later)).price("gpt:gpt-4o", TODAY) is None


def test_two_prices_from_the_same_day_are_an_error(tmp_path):
    with pytest.raises(PriceError, match="same day"):
        load_prices(prices_file(tmp_path, DATED.replace("from = 2027-01-01", "")))


@pytest.mark.parametrize("text", ["", "[[price]]\nfamily = 'gpt'", "price = 1", "not toml", "[price]\na = 1"])
def test_a_price_file_that_is_none_says_so(tmp_path, text):
    with pytest.raises(PriceError):
        load_prices(prices_file(tmp_path, text))


def test_a_missing_price_file_says_so(tmp_path):
    with pytest.raises(PriceError, match=r"nowhere\.toml"):
        load_prices(tmp_path / "nowhere.toml")


# ---- a job's own prices ----


def test_a_job_brings_prices_for_models_of_its_own():
    own = load_prices({"openai:llama": {"input_usd_per_mtok": "0", "output_usd_per_mtok": 0.1}})
    cost = own.price("openai:llama", TODAY).cost(1_000, 10)
    assert cost == Cost(0, 1_000_000, 1_000_000, "openai:llama@job:0/0.1")
    assert own.price("gpt:gpt-4o", TODAY) == load_prices().price("gpt:gpt-4o", TODAY)


def test_a_job_overrides_a_published_price():
    own = load_prices({"gpt:gpt-4o": {"input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}})
    assert own.price("gpt:gpt-4o", TODAY).cost(1, 1).total_pico == 2_000_000
    assert load_prices().price("gpt:gpt-4o", TODAY).cost(1, 1).total_pico == 12_500_000


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (3, "must be input_usd_per_mtok"),
        ({}, "input_usd_per_mtok is missing"),
        ({"input_usd_per_mtok": "1"}, "output_usd_per_mtok is missing"),
        ({"input_usd_per_mtok": "-1", "output_usd_per_mtok": "1"}, "0 or more"),
        ({"input_usd_per_mtok": "0.0000001", "output_usd_per_mtok": "1"}, "at most 6 decimals"),
        ({"input_usd_per_mtok": "NaN", "output_usd_per_mtok": "1"}, "'NaN'"),
        ({"input_usd_per_mtok": float("inf"), "output_usd_per_mtok": "1"}, "inf"),
        ({"input_usd_per_mtok": True, "output_usd_per_mtok": "1"}, "True"),
        ({"input_usd_per_mtok": "1", "output_usd_per_mtok": "1", "inputs": 1}, "unknown inputs"),
        ({"tiers": []}, "list of objects"),
        ({"tiers": [{"input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}] * 2}, "only the last may"),
        (
            {
                "tiers": [
                    {"up_to_input_tokens": 9, "input_usd_per_mtok": "1", "output_usd_per_mtok": "1"},
                    {"up_to_input_tokens": 9, "input_usd_per_mtok": "1", "output_usd_per_mtok": "1"},
                ]
            },
            "whole number over 9",
        ),
        ({"input_usd_per_mtok": "1", "output_usd_per_mtok": "1", "checked": "today"}, "must be a date"),
    ],
)
def test_a_wrong_price_says_which_and_what_is_wanted(row, said):
    with pytest.raises(InputError) as caught:
        load_prices({"openai:llama": row})
    assert "openai:llama" in str(caught.value)
    assert said in str(caught.value)


def test_all_wrong_prices_are_told_at_once():
    with pytest.raises(PriceError) as caught:
        load_prices({"a:b": {}, "c": {}, "d:e": 1})
    assert len(caught.value.problems) == 3


# ---- hints, retirement, models, check ----


def test_the_documents_own_nova_name_is_told_its_priced_name():
    hint = load_prices().hint("nova:amazon.nova-lite-v1:0")
    assert "nova:us.amazon.nova-lite-v1:0" in hint
    assert load_prices().price("nova:amazon.nova-lite-v1:0", TODAY) is None


def test_a_misspelt_model_is_told_the_nearest():
    assert "gemini:gemini-2.5-flash" in load_prices().hint("gemini:gemini-2.5-flsh")
    assert load_prices().hint("gpt:gpt-4o") is None


def test_retirement_is_past_from_its_day_on():
    assert load_prices().retired("gemini:gemini-2.5-pro", date(2026, 11, 30)).past is False
    assert load_prices().retired("gemini:gemini-2.5-pro", date(2026, 12, 1)).past is True
    assert load_prices().retired("gpt:o1-2024-12-17", TODAY).on == date(2026, 10, 23)
    assert load_prices().retired("nova:us.amazon.nova-lite-v1:0", TODAY) is None


def test_every_retirement_is_of_a_priced_model():
    assert {f.model for f in load_prices().check(9999, TODAY)} <= {
        row.model for row in load_prices().models(TODAY)
    }


def test_models_lists_every_row_with_its_endpoints_and_media():
    rows = {row.model: row for row in load_prices().models(TODAY)}
    assert len(rows) == 60
    nova = rows["nova:us.amazon.nova-lite-v1:0"]
    assert nova.endpoints == ("/iu", "/vu")
    assert nova.media == ("image by URL or inline", "video by URL or inline")
    assert rows["gemini:gemini-2.5-pro"].media == ("image by URL or inline", "video by URL")
    assert rows["gpt:gpt-4o"].endpoints == ("/iu",)
    assert rows["gpt:gpt-4o"].media == ("image by URL or inline",)
    assert rows["gpt:gpt-4o"].price.cost(1, 0).total_pico == 2_500_000


def test_a_model_row_prints_its_tiers_in_dollars():
    rows = {row.model: row.to_json() for row in load_prices().models(TODAY)}
    assert rows["qwen:qwen3-vl-flash"]["tiers"] == [
        {"up_to_input_tokens": 32_000, "input_usd_per_mtok": "0.052", "output_usd_per_mtok": "0.42"},
        {"up_to_input_tokens": 128_000, "input_usd_per_mtok": "0.079", "output_usd_per_mtok": "0.63"},
        {"up_to_input_tokens": None, "input_usd_per_mtok": "0.126", "output_usd_per_mtok": "1.01"},
    ]
    assert rows["gpt:gpt-4-turbo"] == {
        "model": "gpt:gpt-4-turbo",
        "family": "gpt",
        "endpoints": ["/iu"],
        "media": ["image by URL or inline"],
        "price_id": "gpt:gpt-4-turbo@seed-2026-11-22",
        "checked": "2026-11-22",
        "tiers": [{"up_to_input_tokens": None, "input_usd_per_mtok": "10", "output_usd_per_mtok": "30"}],
        "retires_on": "2026-10-23",
        "retired": True,
    }
    assert json.loads(json.dumps(rows)) == rows


def test_a_model_of_an_unknown_family_is_listed_without_media():
    own = load_prices({"zephyr:llama": {"input_usd_per_mtok": "0", "output_usd_per_mtok": "0"}})
    assert own.models(TODAY)[-1].model == "zephyr:llama"
    assert own.models(TODAY)[-1].endpoints == ()


def test_check_tells_old_prices_unpriced_models_and_retirements():
    kinds = {
        (f.kind, f.model) for f in load_prices().check(30, date(2026, 12, 22), ["gpt:gpt-9", "gpt:gpt-4o"])
    }
    assert {kind for kind, _ in kinds} == {"no_price", "retired", "retiring"}
    assert ("no_price", "gpt:gpt-9") in kinds
    assert ("retired", "gemini:gemini-2.5-pro") in kinds
    assert ("retiring", "gpt:gpt-5.1") in kinds
    old = [f for f in load_prices().check(30, date(2026, 12, 23)) if f.kind == "old"]
    assert len(old) == 60
    assert old[0].text == "price was checked 31 days ago, on 2026-11-22"
