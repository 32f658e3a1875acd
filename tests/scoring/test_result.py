"""A result as result.json, tables and logs have it."""

import json
import statistics

import numpy as np
import pytest

from hitpro_jax.scoring.result import HEADLINE, Result
from hitpro_jax.scoring.scores import score


def scores(seed=0):
    rng = np.random.default_rng(seed)
    return score(
        rng.normal(size=(9, 4)),
        rng.normal(size=(20, 4)),
        *(rng.integers(0, 3, size) for size in (9, 20)),
        *(rng.integers(0, 3, size) for size in (9, 20)),
    )


def result(**changes):
    given = {
        "protocol": "hitsz_vcm",
        "setting": "6 frames of 288x144, camera rule",
        "rows_changed": "",
        "step": 40,
        "scores": {"i2v": scores(), "v2i": scores()},
        "titles": {"i2v": "infrared to visible"},
    }
    return Result(**{**given, **changes})


def test_result_json_has_its_keys_in_order():
    content = result().to_json()
    assert list(content) == ["protocol", "setting", "step", "i2v", "v2i"]
    assert list(content["i2v"]) == ["rank1", "rank5", "rank10", "rank20", "mAP", "mINP"] == list(HEADLINE)
    assert content["i2v"] == {name: scores()[name] for name in HEADLINE}
    assert json.loads(json.dumps(content)) == content


def test_where_nothing_was_scored_there_is_no_setting():
    nothing = result(setting="", scores={})
    assert nothing.to_json() == {"protocol": "hitsz_vcm", "step": 40}
    assert nothing.rows() == []
    assert nothing.metrics() == {}


def test_rows_have_the_titles_of_their_directions():
    assert [title for title, _ in result().rows()] == ["infrared to visible", "v2i"]
    assert result().rows()[0][1] == result().headline["i2v"]


def test_metrics_and_summary():
    found = result(scores={"i2v": scores()})
    assert list(found.metrics()) == [f"eval/i2v/{name}" for name in HEADLINE]
    values = scores()
    assert found.summary() == (
        f"step 40, hitsz_vcm (6 frames of 288x144, camera rule): i2v rank-1 {values['rank1']:.1f} "
        f"mAP {values['mAP']:.1f} ({values['valid'].sum()} queries)"
    )


def test_of_several_trials_the_headline_is_the_mean_and_all_are_kept():
    trials = {number: {"i2v": scores(number), "v2i": scores(number + 7)} for number in (1, 2, 3)}
    found = result(scores=trials[1], trials=trials)
    values = [trials[number]["i2v"]["mAP"] for number in (1, 2, 3)]
    mean, std = sum(values) / 3, statistics.stdev(values)
    content = found.to_json()
    assert list(content) == ["protocol", "setting", "step", "i2v", "v2i", "std", "trials"]
    assert content["i2v"]["mAP"] == pytest.approx(mean)
    assert content["std"]["i2v"]["mAP"] == pytest.approx(std)
    assert [trial["trial"] for trial in content["trials"]] == [1, 2, 3]
    assert [trial["i2v"]["mAP"] for trial in content["trials"]] == values
    assert json.loads(json.dumps(content)) == content
    assert found.metrics()["eval/i2v/mAP"] == content["i2v"]["mAP"]
    assert found.rows()[0][1]["mAP"] == pytest.approx((mean, std))
    assert f"i2v rank-1 {content['i2v']['rank1']:.1f} mAP {mean:.1f} (" in found.summary()
