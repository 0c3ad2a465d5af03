"""Confidence against what was right."""

import importlib
import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from statsmodels.stats.multitest import multipletests

from mavi_tasks.compare import calibration
from mavi_tasks.reports.html import compare_page
from tests.support import made_dataset as made
from tests.support.made_dataset import Made, row

compare = importlib.import_module("mavi_tasks.compare")
A, B, C = "gemini:one", "gpt:two", "nova:three:0"


def test_scores_and_bins_equal_scikit_learns():
    draw = np.random.default_rng(3)
    sure = draw.random(1000)
    right = (draw.random(1000) < sure**2).astype(float)
    found = calibration.of(sure, right, np.arange(1000))
    assert found.brier == pytest.approx(brier_score_loss(right, sure))
    accuracy, confidence = calibration_curve(right, sure, n_bins=10, strategy="quantile")
    assert [one.accuracy.value for one in found.bins] == pytest.approx(accuracy.tolist())
    assert [one.confidence for one in found.bins] == pytest.approx(confidence.tolist())
    assert found.overconfident == pytest.approx(sure.mean() - right.mean())


def test_equal_confidences_stay_in_one_bin():
    found = calibration.of(np.repeat([0.5, 0.9], [30, 70]), np.repeat([0.0, 1.0], [30, 70]), np.arange(100))
    assert [(one.n, one.accuracy.value) for one in found.bins] == [(30, 0.0), (70, 1.0)]
    assert [(kept.coverage, kept.accuracy) for kept in found.coverage] == [(1.0, 0.7), (0.7, 1.0)]
    assert found.error == pytest.approx(0.3 * 0.5 + 0.7 * 0.1)


def test_the_page_shows_confidence_only_where_models_give_one(tmp_path):
    models = (Made(A, 0.9, "0.002"), Made(B, 0.8, "0.001"))
    sure = compare.compare([made.bake_off(tmp_path / "sure", models, 200, as_json=True)])
    assert set(sure.calibration) == {A, B}
    assert 'aria-label="Confidence against right answers"' in compare_page.html(sure)
    assert sure.to_json()["calibration"][A]["bins"][0]["accuracy_low"] >= 0
    plain = compare.compare([made.bake_off(tmp_path / "plain", models, 200)])
    assert plain.calibration == {}
    assert "Confidence against right answers" not in compare_page.html(plain)


def test_fields_are_tested_together(tmp_path):
    draw, rows = np.random.default_rng(8), []
    for at in range(60):
        truth = {"animal": "cat", "count": at % 3 + 1, "place": "sea"}
        for model, skill in ((A, 0.95), (B, 0.7), (C, 0.65)):
            said = {key: value if draw.random() < skill else "other" for key, value in truth.items()}
            rows.append(row(model, str(at), json.dumps(said), truth=json.dumps(truth)))
    found = compare.compare([made.write(tmp_path, rows)])
    pairs = [pair for one in found.fields.values() for pair in one.pairs]
    assert len(pairs) == 9
    expected = multipletests([pair.p_value for pair in pairs], method="holm")[1]
    assert [pair.p_holm for pair in pairs] == pytest.approx(expected.tolist())
