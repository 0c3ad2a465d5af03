"""A sample of labels: drawn where the models differ, and true of all items."""

import csv
import importlib
import json
from itertools import combinations

import numpy as np
import pytest

from mavi_tasks.cli.main import main
from mavi_tasks.compare import few_labels, labelled, sample
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.sheet import Unit
from mavi_tasks.errors import InputError
from tests.bench import labels_needed as bench
from tests.support import made_dataset as made
from tests.support.made_dataset import Made

compare = importlib.import_module("mavi_tasks.compare")
A, B = "gemini:one", "gpt:two"


def units(count):
    return [Unit(str(at), "p", None, None, None, None, None) for at in range(count)]


def labels_of(codes, truth, judged):
    right = (codes == truth) & judged
    return Labels((), ("a", "b", "c"), codes, judged, right, right.astype(float), np.zeros(codes.shape), None)


def sampled(found, size, **options):
    chosen = sample.draw(units(len(found.truth)), found.codes, size, **options)
    probability = np.full(len(found.truth), np.nan)
    for one in chosen:
        probability[one.unit] = one.inclusion_probability
    return chosen, probability


@pytest.fixture
def world():
    return bench.world((0.88, 0.90), 400, np.random.default_rng(5))


# -- the draw


def test_nine_in_ten_labels_lie_where_the_models_differ(world):
    chosen, _ = sampled(world, 40)
    split = sample.differ(world.codes)
    assert len(chosen) == 40
    assert sum(split[one.unit] for one in chosen) == 36


@pytest.mark.parametrize("aim", sample.AIMS)
def test_probabilities_are_how_often_an_item_is_drawn(world, aim):
    times, draws = np.zeros(400), 4000
    for seed in range(draws):
        chosen, _ = sampled(world, 40, aim=aim, seed=seed)
        times[[one.unit for one in chosen]] += 1
    expected = sample.inclusion(world.codes, sample.differ(world.codes), 40, aim)
    assert expected.sum() == pytest.approx(40)
    error = np.sqrt(expected * (1 - expected) / draws)
    assert np.abs((times / draws - expected) / np.maximum(error, 1e-9)).max() < 4.5


def test_a_larger_sample_of_the_same_seed_holds_the_smaller(world):
    small, large = sampled(world, 20)[0], sampled(world, 35)[0]
    assert {one.unit for one in small} < {one.unit for one in large}


def test_more_labels_than_items_are_all_items(world):
    chosen, probability = sampled(world, 4000)
    assert sorted(one.unit for one in chosen) == list(range(400))
    assert (probability == 1).all()


def test_a_sample_of_nothing_is_refused(world):
    with pytest.raises(InputError, match="0 labels: ask for 1 or more"):
        sample.draw(units(400), world.codes, 0)


# -- the estimates


def test_estimates_are_right_on_average_over_every_possible_sample():
    codes = np.array([[0, 0, 1, 2, 1, 0, 2, 0], [0, 1, 0, 0, 1, 0, 1, 0]])
    truth = np.array([0, 1, 0, 2, 1, 1, 1, 0])
    split, asked = np.flatnonzero(codes[0] != codes[1]), np.ones(codes.shape, bool)
    same = np.flatnonzero(codes[0] == codes[1])
    values, accuracies = [], []
    for some in combinations(split.tolist(), 2):
        for other in combinations(same.tolist(), 1):
            judged = np.isin(np.arange(8), [*some, *other])
            pi = np.where(codes[0] != codes[1], 2 / len(split), 1 / len(same))
            labels = labels_of(codes, truth, judged)
            values.append(few_labels.pair(labels, asked, np.where(judged, pi, np.nan), 0, 1).difference.value)
            accuracies.append(few_labels.accuracy(labels, asked, np.where(judged, pi, np.nan), 1).value)
    assert np.mean(values) == pytest.approx((4 - 6) / 8)  # of 8 items the first is right on 4, the other on 6
    assert np.mean(accuracies) == pytest.approx(6 / 8)


def test_a_census_leaves_no_doubt(world):
    judged = np.ones(400, bool)
    labels, asked = labels_of(world.codes, world.truth, judged), np.ones((2, 400), bool)
    pair = few_labels.pair(labels, asked, np.ones(400), 0, 1).difference
    held = few_labels.accuracy(labels, asked, np.ones(400), 0)
    assert (pair.value, pair.error) == (pytest.approx(np.subtract(*world.right.mean(1))), 0.0)
    assert held.value == held.low == held.high == pytest.approx(world.right[0].mean())


def test_equal_labels_so_far_are_no_proof():
    codes = np.array([[0] * 50 + [1] * 50, [0] * 100])
    judged = np.zeros(100, bool)
    judged[50:55] = True  # five labels, and each time the first is right
    labels = labels_of(codes, np.ones(100, int), judged)
    pair = few_labels.pair(labels, np.ones((2, 100), bool), np.where(judged, 0.1, np.nan), 0, 1).difference
    assert pair.value == 0.5  # it is 1 where they differ, on half of the items
    assert pair.interval().low < 0.2


def test_accuracy_is_unknown_when_what_all_agree_on_was_never_sampled():
    codes = np.array([[0] * 50 + [1] * 50, [0] * 100])
    judged = np.arange(100) >= 90
    labels = labels_of(codes, np.zeros(100, int), judged)
    asked, probability = np.ones((2, 100), bool), np.where(judged, 0.2, np.nan)
    assert few_labels.accuracy(labels, asked, probability, 0) is None
    assert few_labels.pair(labels, asked, probability, 0, 1).difference.value == -0.5


def test_a_pair_without_a_label_that_bears_on_it_is_open():
    codes = np.array([[0, 1, 0], [0, 0, 0]])
    labels = labels_of(codes, np.zeros(3, int), np.array([True, False, False]))
    pair = few_labels.pair(labels, np.ones((2, 3), bool), np.array([0.5, np.nan, np.nan]), 0, 1)
    assert pair.difference.error == np.inf


def test_models_that_never_differ_are_equal_without_a_label():
    codes = np.zeros((2, 5), int)
    labels = labels_of(codes, np.zeros(5, int), np.zeros(5, bool))
    pair = few_labels.pair(labels, np.ones((2, 5), bool), np.full(5, np.nan), 0, 1).difference
    assert (pair.value, pair.error) == (0.0, 0.0)
    assert pair.interval().high == 0.0


def test_the_sample_takes_five_times_fewer_labels_and_its_intervals_cover():
    generator = np.random.default_rng(3)
    pairs, single = bench.Tally(), bench.Tally()
    names = units(2000)
    for seed in range(120):
        found = bench.world((0.88, 0.90), 2000, generator)
        bench.trial(found, names, 100, "differences", seed, generator, pairs, single)
    assert pairs.fewer > 4
    assert pairs.coverage > 0.88
    assert single.coverage > 0.93


def test_labels_needed_are_about_those_that_settle_the_choice():
    """Half of all samples of that size bring the bound on the cheap model below the margin."""
    found = bench.world((0.90, 0.90), 3000, np.random.default_rng(9))
    asked = np.ones((2, 3000), bool)

    def after(size, seed):
        chosen, probability = sampled(found, size, seed=seed)
        judged = ~np.isnan(probability)
        labels = labels_of(found.codes, found.truth, judged)
        pairs = few_labels.pairs(labels, asked, probability)
        need = few_labels.needed(pairs, len(chosen), [0.1, 1.0], margin=0.03)
        high = -pairs[0, 1].difference.value + pairs[0, 1].difference.reach(0.975)
        return need, high <= 0.03

    needs = [after(60, seed)[0] for seed in range(40)]
    middle = int(np.median([need.needed_p50 for need in needs]))
    settled = np.mean([after(middle, seed)[1] for seed in range(200)])
    assert 0.3 < settled < 0.7
    assert needs[0].used == 60
    assert 4 < np.median([need.saved_factor for need in needs]) < 12


# -- through files and the command line


def bake_off(root, *, truth=False):
    models = (Made(A, 0.9, "0.002"), Made(B, 0.8, "0.001"))
    return made.bake_off(root / f"data-{truth}", models, 400, seed=4, truth=truth)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fill(path, truths, leave=0):
    rows = read(path)
    for at, row in enumerate(rows):
        row["truth"] = "" if at >= len(rows) - leave else truths[row["item_id"]]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_draw_label_and_compare_by_the_command_line(tmp_path, capsys):
    blind, file = bake_off(tmp_path), tmp_path / "labels.csv"
    full = compare.compare([bake_off(tmp_path, truth=True)])
    truths = {unit.item_id: unit.truth for unit in full.sheet.units}
    assert main(["compare", str(blind), "--label-sample", "80", "--to", str(file)]) == 0
    rows = fill(file, truths)
    assert len(rows) == 80
    assert list(rows[0]) == list(sample.COLUMNS)
    assert main(["compare", str(blind), "--truth", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["labels"]["used"] == 80
    assert found["labels"]["saved_factor"] > 2
    assert found["labels"]["needed_p50"] > 0
    pair, true = found["pairs"][0], full.pairs[0].difference.value
    assert pair["difference_low"] <= true <= pair["difference_high"]
    by_model = {one["model"]: one for one in found["models"]}
    for one in full.models:
        assert (
            by_model[one.model]["accuracy_low"] <= one.accuracy.value <= by_model[one.model]["accuracy_high"]
        )
    assert any("estimated from a sample of 80 labels" in text for text in found["warnings"])


def test_a_larger_sample_keeps_the_labels_there_are(tmp_path):
    blind, file, more = bake_off(tmp_path), tmp_path / "labels.csv", tmp_path / "more.csv"
    main(["compare", str(blind), "--label-sample", "20", "--to", str(file)])
    rows = fill(file, dict.fromkeys((row["item_id"] for row in read(file)), "cat"))
    main(["compare", str(blind), "--truth", str(file), "--label-sample", "30", "--to", str(more)])
    again = read(more)
    assert sum(row["truth"] == "cat" for row in again) == 20
    assert {row["item_id"] for row in rows} < {row["item_id"] for row in again}


def test_labels_of_some_items_that_nobody_drew_speak_of_these_items_only(tmp_path):
    blind, file = bake_off(tmp_path), tmp_path / "labels.csv"
    file.write_text("item_id,truth\n" + "".join(f"item-{at:05},cat\n" for at in range(50)))
    found = compare.compare([blind], truth=labelled.read_csv(file))
    assert any("50 of 400 items" in text and "these items only" in text for text in found.warnings)
    assert found.to_json()["labels"] == {"used": 50, "needed_p50": None, "saved_factor": None}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("item,truth\n", ":1: the column 'item_id' is missing"),
        ("item_id,truth,inclusion_probability\n1,cat,2\n", ":2: inclusion_probability '2' must be a number"),
        ("item_id,truth\n,cat\n", ":2: item_id is empty"),
    ],
)
def test_problems_of_a_label_file_name_its_line(tmp_path, text, problem):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=problem):
        labelled.read_csv(file)


def test_labels_of_other_items_are_refused(tmp_path):
    with pytest.raises(InputError, match="'nowhere' is not one of their item_id"):
        compare.compare([bake_off(tmp_path)], truth={("nowhere", ""): labelled.Label("cat", 0.5)})


def test_a_formula_in_an_item_is_defused_and_comes_back(tmp_path):
    unit = Unit("=1+1", "p", None, None, None, None, "-cat")
    sample.write_csv([unit], [sample.Chosen(0, 0.25)], tmp_path / "l.csv")
    assert "'=1+1" in (tmp_path / "l.csv").read_text()
    assert labelled.read_csv(tmp_path / "l.csv") == {("=1+1", "p"): labelled.Label("-cat", 0.25)}
