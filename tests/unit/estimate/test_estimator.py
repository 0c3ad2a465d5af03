"""A whole plan: what it costs, how surely, and what past runs teach it."""

import json
import math
import random
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from mavi_tasks.estimate import Estimator, FrameSampling, History, ModelAssumptions, text_chars
from mavi_tasks.estimate.budget_advice import Accuracy, cheaper, explain, plan_accuracy
from mavi_tasks.estimate.stratified_sample import pilot_sample, stratum_of
from mavi_tasks.estimate.token_model import Shape, fit
from mavi_tasks.pricing.book import load_prices
from mavi_tasks.schema import RESULTS
from tests.unit.estimate.test_token_formulas import image, video

TODAY = date(2026, 11, 22)
BOOK = load_prices()
FLASH = "gemini:gemini-2.5-flash"
PRO = "gemini:gemini-2.5-pro"
QWEN = "qwen:qwen3-vl-plus"
GPT = "gpt:gpt-4o"
NOVA = "nova:us.amazon.nova-lite-v1:0"


@dataclass(frozen=True)
class Limits:
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None


def setting(model, **more):
    return ModelAssumptions(price=BOOK.price(model, TODAY), **more)


def estimated(model, media_items, observed=None, **more):
    estimator = Estimator({model: setting(model, **more)}, observed)
    for media in media_items:
        estimator.add(model, [media], 40, "p")
    return estimator.result()


# ---- formulas


def test_the_middle_of_a_plan_is_its_tokens_at_their_price():
    plan = estimated(FLASH, [image(384, 384)] * 1000, max_tokens=30)
    assert plan.requests == 1000
    assert plan.input_tokens.p50 == pytest.approx(268_000, rel=0.02)  # 258 + 10 of text
    # 268,000 * $0.30 / 1M + 1000 * 30 * $2.50 / 1M; answers are cut at 30 tokens
    assert float(plan.cost_usd.p50) == pytest.approx(0.0804 + 0.075, rel=0.03)
    assert plan.cost_usd.p10 < plan.cost_usd.p50 < plan.cost_usd.p90


def test_a_request_over_a_tiers_edge_is_priced_at_that_tier():
    below, above = video(600), video(1200)  # 174,000 and 348,000 tokens: $1.25 and $2.50 a million
    cheap = estimated(PRO, [below] * 10, max_tokens=1).cost_usd.p50
    dear = estimated(PRO, [above] * 10, max_tokens=1).cost_usd.p50
    assert float(cheap) == pytest.approx(10 * 174_010 * 1.25e-6, rel=0.02)
    assert float(dear) == pytest.approx(10 * 348_010 * 2.50e-6, rel=0.02)


def test_a_plan_counts_its_requests_by_tier():
    plan = estimated(PRO, [video(600)] * 3 + [video(1200)] * 2)
    counts = dict(plan.models[0].tier_requests)
    assert sorted(counts.values()) == [2, 3]


def test_tokens_just_under_an_edge_may_fall_over_it():
    # 199,400 tokens, 15 % uncertain: the dear half of the band pays twice the price a token.
    plan = estimated(PRO, [video(687.5)] * 100, max_tokens=1)
    assert plan.cost_usd.p90 > Decimal("1.9") * plan.cost_usd.p50


def test_a_price_that_falls_or_has_no_tiers_is_proportional():
    one = estimated(GPT, [image(1024, 1024)] * 10, max_tokens=10)
    ten = estimated(GPT, [image(1024, 1024)] * 100, max_tokens=10)
    assert float(ten.cost_usd.p50) == pytest.approx(10 * float(one.cost_usd.p50), rel=0.01)


def test_an_unknown_price_is_said_and_not_guessed():
    estimator = Estimator({FLASH: setting(FLASH), "gemini:gemini-9": ModelAssumptions()})
    for model in (FLASH, "gemini:gemini-9"):
        estimator.add(model, [image(100, 100)], 40, "p")
    plan = estimator.result()
    assert plan.cost_usd is None
    assert plan.unpriced == ("gemini:gemini-9",)
    assert plan.known_cost_usd.p50 > 0
    assert "no price is known: the cost is not guessed" in plan.models[1].why
    assert plan.to_json()["cost_usd"] is None


def test_an_unknown_family_has_no_tokens_and_no_cost():
    plan = estimated(FLASH, [])
    assert plan.requests == 0
    estimator = Estimator({"acme:seer": setting(FLASH)})
    estimator.add("acme:seer", [image(100, 100)], 40, "p")
    model = estimator.result().models[0]
    assert (model.basis, model.input_tokens, model.cost_usd) == ("unknown", None, None)


def test_guessed_sizes_widen_the_band():
    known = estimated(NOVA, [video(30)] * 100).cost_usd
    guessed = estimated(NOVA, [video(None)] * 100).cost_usd
    assert guessed.p90 - guessed.p10 > Decimal("1.5") * (known.p90 - known.p10)


def test_the_system_prompt_counts_for_every_request():
    short = estimated(FLASH, [image(100, 100)] * 100).input_tokens.p50
    long = estimated(FLASH, [image(100, 100)] * 100, overhead_chars=text_chars("x" * 4000)).input_tokens.p50
    assert long - short == pytest.approx(100_000, rel=0.01)


def test_frames_and_frames_a_second_count_as_images():
    eight = estimated(GPT, [video(30, 1024, 1024)], sampling=FrameSampling(frames=8))
    each = estimated(GPT, [video(30, 1024, 1024)], sampling=FrameSampling(fps=0.5))  # 15 frames
    assert eight.input_tokens.p50 == pytest.approx(8 * 765 + 10, rel=0.01)
    assert each.input_tokens.p50 == pytest.approx(15 * 765 + 10, rel=0.01)


def test_the_json_of_a_plan_has_dollars_as_strings():
    written = json.loads(json.dumps(estimated(FLASH, [image(100, 100)]).to_json()))
    assert set(written["cost_usd"]) == {"p10", "p50", "p90"}
    assert all(isinstance(amount, str) for amount in written["cost_usd"].values())
    assert set(written["models"][0]) >= {
        "model",
        "requests",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "wall_s",
        "basis",
    }


def test_the_same_plan_gives_the_same_numbers():
    media_items = [image(1000, 1000), video(30)] * 10
    assert estimated(QWEN, media_items) == estimated(QWEN, media_items)


def test_the_whole_is_between_its_parts():
    estimator = Estimator({model: setting(model) for model in (FLASH, NOVA)})
    for model in (FLASH, NOVA):
        for _ in range(50):
            estimator.add(model, [image(900, 900)], 40, "p")
    plan = estimator.result()
    parts = [model.cost_usd for model in plan.models]
    assert sum(part.p10 for part in parts) <= plan.cost_usd.p50 <= sum(part.p90 for part in parts)
    assert plan.wall_s.p50 >= max(model.wall_s.p50 for model in plan.models) * 0.99


# ---- time


def test_a_rate_limit_decides_the_time():
    plan = estimated(FLASH, [image(100, 100)] * 600, limits=Limits(requests_per_minute=60))
    assert 600 <= plan.wall_s.p10 <= plan.wall_s.p90 <= 620


def test_a_token_limit_decides_the_time():
    plan = estimated(FLASH, [video(60)] * 100, limits=Limits(tokens_per_minute=174_000), max_tokens=1)
    assert plan.wall_s.p50 == pytest.approx(600, rel=0.05)  # 1.74 M tokens


def test_fewer_in_flight_take_longer():
    one = estimated(FLASH, [image(100, 100)] * 100, limits=Limits(concurrency=1)).wall_s.p50
    ten = estimated(FLASH, [image(100, 100)] * 100, limits=Limits(concurrency=10)).wall_s.p50
    assert one == pytest.approx(10 * ten, rel=0.2)


# ---- learning from past runs


def _row(model, media, tokens, output, **more):
    return {
        "gateway": "mavi",
        "model": model,
        "prompt_id": "p",
        "media_kind": media.kind,
        "input_mode": "url",
        "width": media.width,
        "height": media.height,
        "duration_s": media.duration_s,
        "prompt": "x" * 40,
        "status": "answered",
        "input_tokens": tokens,
        "output_tokens": output,
        "latency_s": 2.0,
        **more,
    }


def _table(rows):
    full = [{name: row.get(name) for name in RESULTS.names} for row in rows]
    return pa.Table.from_pylist(full, schema=RESULTS)


def _media(rng, mix):
    if mix == "images" or (mix == "both" and rng.random() < 0.75):
        side = rng.choice([(640, 480), (1024, 768), (1920, 1080), (4000, 3000)])
        return image(*side)
    return video(min(1200.0, 4 + rng.lognormvariate(3, 1)))


def _own_server(rng, media):
    """A server with tokens of its own, far from every published formula."""
    if media.kind == "image":
        tokens = 260 + 0.0003 * media.width * media.height * rng.lognormvariate(0, 0.1)
    else:
        tokens = 190 * media.duration_s * rng.lognormvariate(0, 0.2)
    return round(60 + tokens), max(1, min(300, round(rng.lognormvariate(4, 0.8))))


def _cost(model, answers):
    price = BOOK.price(model, TODAY)
    return sum(price.cost(*answer).total_pico for answer in answers) / 1e12


def _trial(model, mix, n, seed):
    rng = random.Random(f"{mix} {seed}")
    media_items = [_media(rng, mix) for _ in range(5_000)]
    answers = [_own_server(rng, media) for media in media_items]
    pilot = pilot_sample(range(5_000), n, seed, stratum=lambda at: stratum_of([media_items[at]], "p"))
    seen = History.from_dataset(_table(_row(model, media_items[at], *answers[at]) for at in pilot.chosen))
    plan = estimated(model, media_items, seen, max_tokens=300)
    assert plan.models[0].basis == "observed"
    truth, band = _cost(model, answers), plan.cost_usd
    return float(band.p10) <= truth <= float(band.p90), float(band.p90 - band.p10) / truth


@pytest.mark.slow
@pytest.mark.parametrize(("model", "mix"), [(FLASH, "both"), (QWEN, "videos")])
def test_a_plan_after_a_pilot_of_50_holds_the_truth_in_eighty_of_a_hundred_trials(model, mix):
    assert sum(_trial(model, mix, 50, seed)[0] for seed in range(100)) >= 80


@pytest.mark.parametrize("mix", ["images", "both"])
def test_the_band_shrinks_with_what_was_seen(mix):
    widths = [sum(_trial(QWEN, mix, n, seed)[1] for seed in range(3)) for n in (50, 400, 2000)]
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


@pytest.mark.parametrize("model", [FLASH, QWEN, NOVA])
def test_after_one_full_run_the_next_plan_of_like_media_is_within_5_percent(model):
    rng = random.Random(7)
    media_items = [_media(rng, "both") for _ in range(5_000)]
    seen = History.from_dataset(_table(_row(model, media, *_own_server(rng, media)) for media in media_items))
    others = [_media(rng, "both") for _ in range(3_000)]
    truth = _cost(model, [_own_server(rng, media) for media in others])
    assert float(estimated(model, others, seen, max_tokens=300).cost_usd.p50) == pytest.approx(
        truth, rel=0.05
    )


def test_what_was_seen_replaces_the_formula_and_is_said():
    rows = [_row(FLASH, image(1000, 1000), 2_000, 50) for _ in range(30)]
    plan = estimated(FLASH, [image(1000, 1000)] * 10, History.from_dataset(_table(rows)))
    assert plan.models[0].basis == "observed"
    assert plan.input_tokens.p50 == pytest.approx(20_000, rel=0.01)
    assert plan.output_tokens.p50 == pytest.approx(500, rel=0.01)
    assert "image: 30 answers seen, 2,000 input tokens each on average" in plan.models[0].why


def test_a_kind_that_was_not_seen_keeps_its_formula():
    rows = [_row(FLASH, image(1000, 1000), 2_000, 50) for _ in range(30)]
    plan = estimated(FLASH, [video(60)], History.from_dataset(_table(rows)))
    assert plan.models[0].basis == "formula"
    assert plan.input_tokens.p50 == pytest.approx(17_410, rel=0.01)


def test_four_answers_are_too_few_to_learn_from():
    rows = [_row(FLASH, image(1000, 1000), 2_000, 50) for _ in range(4)]
    assert History.from_dataset(_table(rows)).token_models == {}


def test_ten_answers_only_scale_the_formula():
    rows = [_row(FLASH, image(300, 300), 526, 50) for _ in range(10)]  # 10 of text, 2 * 258
    seen = History.from_dataset(_table(rows))
    plan = estimated(FLASH, [image(300, 300)] * 100, seen)
    assert plan.input_tokens.p50 == pytest.approx(52_600, rel=0.01)
    assert plan.input_tokens.p90 > plan.input_tokens.p50


def test_failures_copies_repairs_and_other_gateways_teach_nothing():
    odd = [
        {"status": "failed"},
        {"extra": '{"repaired":true}'},
        {"extra": '{"shared_from":"k"}'},
        {"gateway": "sandbox"},
        {"input_tokens": None},
    ]
    rows = [_row(FLASH, image(100, 100), 9_999, 9) | more for more in odd for _ in range(30)]
    assert History.from_dataset(_table(rows), gateway="mavi").rows == {}


def test_a_few_absurd_counts_do_not_move_the_law():
    rows = [_row(FLASH, image(1000, 1000), 2_000, 50) for _ in range(60)]
    rows += [_row(FLASH, image(1000, 1000), 2_000_000, 50)] * 2
    plan = estimated(FLASH, [image(1000, 1000)] * 100, History.from_dataset(_table(rows)))
    assert plan.input_tokens.p50 == pytest.approx(200_000, rel=0.02)


def test_record_batches_and_tables_teach_the_same():
    rows = [_row(FLASH, image(1000, 1000), 2_000 + n, 50) for n in range(40)]
    table = _table(rows)
    by_table, by_batches = History.from_dataset(table), History.from_dataset(iter(table.to_batches()))
    assert by_table.token_model(FLASH, "image").terms == by_batches.token_model(FLASH, "image").terms


def test_a_large_dataset_is_sampled_evenly():
    rows = [_row(FLASH, image(1000, 1000), 1_000 + n, 50) for n in range(10_000)]
    seen = History.from_dataset(pads.dataset(_table(rows)))
    assert seen.rows == {FLASH: 4096}
    assert seen.token_model(FLASH, "image").mean == pytest.approx(6_000, rel=0.03)


def test_billed_retries_are_part_of_the_cost():
    rows = [_row(FLASH, image(100, 100), 300, 50, cost_usd=Decimal("0.001")) for _ in range(30)]
    tries = pa.table({"model": [FLASH] * 40, "cost_usd": [Decimal("0.001")] * 40})
    seen = History.from_dataset(_table(rows), attempts=tries)
    assert seen.overheads[FLASH] == pytest.approx(4 / 3)
    without = History.from_dataset(_table(rows))
    plain, dearer = (estimated(FLASH, [image(100, 100)] * 90, one).cost_usd.p50 for one in (without, seen))
    assert float(dearer) == pytest.approx(float(plain) * 4 / 3, rel=0.01)


def test_observed_latency_decides_the_time():
    rows = [_row(FLASH, image(100, 100), 300, 50) for _ in range(30)]  # 2 s each
    plan = estimated(
        FLASH, [image(100, 100)] * 100, History.from_dataset(_table(rows)), limits=Limits(concurrency=1)
    )
    assert plan.wall_s.p50 == pytest.approx(200, rel=0.05)


def test_a_law_has_no_negative_terms_and_finds_seconds():
    rng = random.Random(3)
    shapes = [Shape(10, seconds, 500.0) for seconds in (rng.uniform(5, 300) for _ in range(60))]
    law = fit(shapes, [40 + 7 * shape.units for shape in shapes])
    assert min(law.terms) >= 0
    assert law.tokens(10, 100, 500) == pytest.approx(740, rel=0.01)
    assert law.noise < 1


def test_a_law_of_equal_rows_does_not_divide_by_zero():
    law = fit([Shape(0, 0, 0)] * 25, [0.0] * 25)
    assert law.tokens(0, 0, 0) == 0
    assert math.isfinite(law.error((1, 0, 0, 0)))


# ---- advice


def _plan():
    models = {PRO: setting(PRO, max_tokens=1), NOVA: setting(NOVA, max_tokens=1)}
    models[GPT] = setting(GPT, max_tokens=1, sampling=FrameSampling(frames=8))
    estimator = Estimator(models)
    for model in models:
        for _ in range(1000):
            estimator.add(model, [video(30, 1024, 1024)], 40, "p")
    return estimator.result()


def test_a_budget_over_the_plan_needs_no_choices():
    advice = cheaper(_plan(), Decimal(1000))
    assert advice.fits
    assert advice.choices == ()
    assert advice.reaches == advice.requests == 3000


def test_a_small_budget_says_how_far_it_gets_and_what_would_fit():
    plan = _plan()  # about $10.9 gemini, $0.5 nova, $15.3 gpt
    advice = cheaper(plan, Decimal(14))
    assert not advice.fits
    assert 0 < advice.surely < advice.reaches < 3000
    changes = [choice.change for choice in advice.choices]
    assert changes == ["frames", "drop", "fewer_items"]
    frames = advice.choices[0]
    assert (frames.models, frames.frames) == ((GPT,), 1)
    assert all(choice.cost_usd <= 14 for choice in advice.choices)
    assert advice.choices[1].models == (GPT,)
    assert json.dumps(advice.to_json())
    assert "pays for about" in advice.sentence


def test_a_tiny_budget_drops_several_models():
    drop = next(choice for choice in cheaper(_plan(), Decimal(1)).choices if choice.change == "drop")
    assert drop.models == (GPT, PRO)


def test_another_model_may_replace_the_dearest():
    other = estimated(FLASH, [video(30)] * 1000, max_tokens=1).models
    swap = next(c for c in cheaper(_plan(), Decimal(15), other).choices if c.change == "swap")
    assert swap.models == (GPT, FLASH)


def _run(planned, cost, **more):
    extra = json.dumps({"plan": {"cost_p50_usd": planned}}) if planned else None
    return {"status": "finished", "cost_usd": Decimal(cost), "extra": extra, "started_at": 1, **more}


def test_past_plans_are_compared_with_what_was_paid():
    runs = [_run("1.04", "1.00"), _run("0.99", "1.00"), _run(None, "9"), _run("5", "1", status="stopped")]
    accuracy = plan_accuracy(runs)
    assert (accuracy.plans, accuracy.sentence) == (2, "last 2 plans: within 4 %")


def test_only_the_last_five_plans_count():
    runs = [_run("9", "1", started_at=0)] + [_run("1.01", "1", started_at=n) for n in range(1, 6)]
    assert plan_accuracy(runs).worst == pytest.approx(0.01)


def test_without_finished_plans_there_is_no_accuracy():
    assert plan_accuracy([]) is None
    assert plan_accuracy([_run(None, "1"), {"status": "finished", "cost_usd": 1, "extra": "[]"}]) is None


def test_the_explanation_names_basis_and_past_plans():
    plan = estimated(FLASH, [image(100, 100)])
    assert "formula" in explain(plan)[0]
    assert explain(plan, Accuracy(1, 0.039, 0.039))[-1] == "last plan: within 4 %"
