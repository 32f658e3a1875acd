"""Rows and their tables: which directions are averaged, and what seeds changed."""

import pytest

from experiments import records, tables


def row(seed: int, **scores: float) -> dict:
    return {
        "variant": "HiTPro",
        "seed": seed,
        "result": {"step": 4, **{key: {"mAP": value} for key, value in scores.items()}},
        "frozen": dict.fromkeys(scores, 1.0),
        "commit": "abc",
        "last refresh": {},
        "step": 4,
    }


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (["i2v", "v2i"], ["i2v", "v2i"]),
        (["ir2rgb", "rgb2ir", "rgb2rgb", "ir2ir", "all"], ["ir2rgb", "rgb2ir"]),
        (["i2v", "v2v"], ["i2v"]),
        (["halves"], ["halves"]),
        ([], []),
    ],
)
def test_the_mean_is_over_directions_between_the_modalities(keys, wanted):
    assert records.averaged(keys) == wanted


def test_pairings_within_a_modality_do_not_enter_the_mean_and_the_header_says_so():
    rows = [row(0, ir2rgb=10.0, rgb2ir=20.0, rgb2rgb=90.0), row(1, ir2rgb=12.0, rgb2ir=22.0, rgb2rgb=95.0)]
    table = records.markdown(rows, ["HiTPro"])
    assert table[0] == "| | seed 0 | seed 1 | mean of ir2rgb and rgb2ir |"
    assert table[-1] == "| HiTPro | 10.0 / 20.0 | 12.0 / 22.0 | 16.0 ± 1.4 |"
    assert records.flat(rows[0])["mean mAP of ir2rgb and rgb2ir"] == 15.0
    assert tables.mean_map({"eval/ir2rgb/mAP": 10.0, "eval/rgb2rgb/mAP": 90.0, "eval/ir2rgb/rank1": 3.0}) == 10.0
    assert tables.mean_map({"train/loss": 1.0}) is None


def test_a_run_without_labels_has_no_mean():
    assert not any("mean" in name for name in records.flat(row(0)))


def test_seeds_that_change_nothing_ring_a_warning_and_have_no_deviation():
    """Three seeds of the own example, all 68.7."""
    same = [row(seed, halves=68.7) for seed in (0, 1, 2)]
    table = records.markdown(same, ["HiTPro"])
    assert "| HiTPro | 68.7 | 68.7 | 68.7 | 68.7 |" in table
    assert table[-1] == (
        "**Warning**: HiTPro has the same results on seeds 0, 1, 2: the seed changes nothing there, and these count as "
        "one run."
    )
    assert records.unchanged([*same[:1], row(1, halves=68.8)]) == []


def test_directions_of_a_result_are_not_its_deviations_or_trials():
    figures = {"mAP": 30.0}
    result = {"step": 1, "i2v": figures, "v2i": {"mAP": 40.0}, "std": {"i2v": figures}, "trials": [{"i2v": figures}]}
    assert list(records.scored(result)) == ["i2v", "v2i"]
    assert records.scores({"result": result}) == (30.0, 40.0)
