"""Sweeps name real fields, tables are those of the workdirs, and those of the documents are of the result files."""

import csv
import itertools
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from configs import synthetic, vcm
from experiments import records, report, sweeps, tables


@pytest.mark.parametrize("path", report.PAGES, ids=lambda path: path.name)
def test_documents_equal_the_result_files(path):
    text = path.read_text()
    assert report.insert(text, report.PAGES[path]()) == text, "run python -m experiments.report"


def test_missing_results_are_reported_as_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.render().count("not yet run") == 10
    assert "not yet run" in report.headline()


def row(variant, seed, mean):
    return {
        "variant": variant,
        "seed": seed,
        "result": {key: {"mAP": mean} for key in ("i2v", "v2i")},
        "frozen": {"i2v": 1.0, "v2i": 1.0},
        "minutes": 2.0,
        "commit": "abc",
        "devices": {"cpu": 1},
        "cores": 2,
        "last refresh": {
            f"align/cross/{name}": value
            for name, value in (("precision", 0.5), ("recall_any", 0.25), ("false_any", 0.125))
        },
    }


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """The report on rows of a sweep of `configs/evidence.py`."""
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "evidence").mkdir()

    def render(rows, sweep="baselines"):
        (tmp_path / "evidence" / f"{sweep}.json").write_text(json.dumps(rows))
        return report.render()

    return render


def test_a_baseline_ahead_of_hitpro_is_named(rendered):
    rows = [
        row("HiTPro", 0, 40.0),
        row("HiTPro", 1, 40.0),
        row("cap", 0, 41.5),
        row("pgm", 1, 39.0),
        row("supervised", 0, 60.0),
    ]
    rows[2]["result"]["v2i"]["mAP"] = 39.0  # ahead in one direction alone
    rows.append(row("HiTPro, mean of frames", 0, 50.0))  # no baseline
    text = rendered(rows)
    assert "**Ahead of HiTPro**: cap on seed 0, infrared to visible (41.5 to 40.0)." in text
    assert "| cap | 41.5 / 39.0 | not yet run | - |" in text
    assert "**Ahead of HiTPro**: none of the unsupervised methods run so far." in rendered(
        [row for row in rows if row["variant"] != "cap"]
    )


def test_the_comparison_is_paired_over_worlds(rendered):
    means = {
        "HiTPro": (50.0, 50.0),
        "cap": (40.0, 50.0),
        "frozen": (20.0, 20.0),
        "supervised": (60.0, 60.0),
        **dict.fromkeys(("pgm", "sdcl", "cluster_contrast"), (30.0, 51.5)),
    }
    rows = [row(name, seed, mean) for name, scores in means.items() for seed, mean in enumerate(scores)]
    assert "best baseline of each" not in rendered([*rows, row("adca", 2, 9.0)])  # no world has them all
    rows[0]["processor"] = "ABC"
    text = rendered([*rows, row("adca", 0, 30.0), row("adca", 1, 30.0), row("pgm", 2, 99.0)])
    assert "1.11 times the mAP of the best baseline of each world (mean over the data seeds 0, 1; 0.97" in text
    assert "on 1 of 2, by 4.2 ± 8.1 points, and has 1.12 times that of the best one on average, cap." in text
    assert "75 % of the way" in text
    assert "(cores: 2; processor: ABC, unrecorded)" in text
    assert "0.50 of its cross-modality positives are right; of the tracklets" in text
    assert "in the other modality 0.25 have a right one." in text
    assert "adca on seed 0" in rendered([*rows, row("adca", 0, 99.0)])


def test_the_headline_is_of_the_two_best_baselines_over_common_worlds(rendered):
    means = {"HiTPro": 50.0, "frozen": 20.0, "supervised": 60.0, "cap": 45.0, "pgm": 44.0, "adca": 40.0, "sdcl": 30.0}
    rows = [row(name, seed, mean + seed) for name, mean in means.items() for seed in (0, 1)]
    rows += [row("cluster_contrast", 0, 10.0), row("cluster_contrast", 1, 10.0), row("cap", 2, 99.0)]
    rows[0]["result"]["v2i"]["mAP"] = 52.0
    rendered(rows, "tuned")
    assert report.headline().splitlines()[2:] == [
        "| frozen encoder, no training | 20.5 | 20.5 | 20.5 ± 0.7 |",
        "| pgm | 44.5 | 44.5 | 44.5 ± 0.7 |",
        "| cap | 45.5 | 45.5 | 45.5 ± 0.7 |",
        "| **HiTPro** | 50.5 | 51.5 | 51.0 ± 0.0 |",
        "| supervised, with person ids | 60.5 | 60.5 | 60.5 ± 0.7 |",
    ]


def commits(rows, *names):
    return [row | {"commit": name} for row, name in zip(rows, names, strict=True)]


def test_uncommitted_code_is_named_below_its_table(rendered):
    rows = [row("HiTPro", 0, 40.0), row("cap", 0, 40.0), row("cap", 1, 41.0)]
    text = rendered(commits(rows, "0123456789", "0123456789-dirty", "0123456789-dirty"))
    assert "commits 0123456, 0123456-dirty." in text
    assert "**Code that is in no commit** made 2 of 3 rows, so they cannot be made again: cap (seed 0, 1)." in text
    assert "Code that is in no commit" not in rendered(rows)
    settings = [row("HiTPro, cameras", 0, 40.0) | {"commit": "0123456789-dirty"}]
    assert "made 1 of 1 rows, so they cannot be made again: HiTPro, cameras (seed 0)." in rendered(settings, "settings")


def test_the_committed_levels_are_named_as_uncommitted():
    text = report.PAGE.read_text()
    assert "**Code that is in no commit** made 12 of 15 rows" in text
    assert "commits 2d9d9fd, 2d9d9fd-dirty, aad943d, aad943d-dirty." in text


def test_what_is_taken_away_stands_against_every_run_of_the_config(rendered):
    """The shape of the committed rows: against one run of the config both signs are losses, against the other gains."""
    rendered([row("HiTPro", 11, 52.8), row("HiTPro", 12, 45.0)])  # as `baselines` ran it
    first, second, better = "not relative to views", "stage 1 not balanced", "look-alikes by stage 1"
    text = rendered(
        [
            *(row("HiTPro", seed, mean) for seed, mean in ((11, 56.6), (12, 47.6))),
            *(row(first, seed, mean) for seed, mean in ((11, 53.8), (12, 47.5))),
            *(row(second, seed, mean) for seed, mean in ((11, 50.0), (12, 43.0))),
            row(better, 11, 48.0),
        ],
        "additions",
    )
    assert "| | seed 11, to 56.6 / 52.8 | seed 12, to 47.6 / 45.0 | |" in text
    assert f"| {first} | -2.8 / +1.0 | -0.1 / +2.5 | not shown |" in text
    assert f"| {second} | -6.6 / -2.8 | -4.6 / -2.0 | one sign, within chance |" in text
    assert f"| {better} | -8.6 / -4.8 | - | more than chance |" in text
    assert "Two runs of the config as it is differ by up to 3.8 on one seed" in text


def test_without_a_second_run_nothing_is_shown(rendered):
    text = rendered([row("HiTPro", 11, 56.0), row("not relative to views", 11, 20.0)], "additions")
    assert "| not relative to views | -36.0 | not shown |" in text
    assert "no seed has two runs of the config as it is" in text


def test_no_gain_of_additions_and_parts_is_shown_by_the_committed_rows():
    sections = report.PAGE.read_text().split("\n### ")
    for name in ("`additions`", "`parts`"):
        (section,) = [each for each in sections if each.startswith(name)]
        marks = [line.split(" | ")[-1] for line in section.splitlines() if line.startswith("|") and " / +" in line]
        assert len(marks) == {"`additions`": 3, "`parts`": 2}[name]
        assert set(marks) == {"not shown |"}


def test_rungs_are_differences_to_the_rung_before(rendered):
    rendered([row("HiTPro", 0, 50.0)])
    rungs = [name for name, _ in sweeps.components()]
    means = dict(zip(rungs, (20.0, 20.5, 21.0, 30.0, 31.0, 40.0, 52.0), strict=True))
    text = rendered([row(name, 0, mean) for name, mean in means.items()], "components")
    assert "| + parts (ICTP) | +0.5 | +0.5 | one sign, within chance |" in text
    assert "| + stage 1 and level 2 | +9.0 | +9.0 | more than chance |" in text
    assert "differ by up to 2.0 on one seed" in text


def test_thresholds_stand_beside_what_they_let_through(rendered):
    found = {"align/within/per_tracklet": 1.5, "align/within/precision": 0.75, "align/cross/recall_any": 0.25}
    bars = {"within.fixed": 0.618, "across.fixed": 0.55}
    dynamic = row("HiTPro", 11, 50.0) | {"last refresh": found, "config": {}}
    fixed = row("bars of equal recall", 11, 49.0) | {"last refresh": {}, "config": bars}
    text = rendered([dynamic, fixed], "thresholds")
    assert "| HiTPro | - | 1.50 | 0.75 | - | - | - | 0.25 |" in text
    assert "| bars of equal recall | 0.62 and 0.55 | - | - | - | - | - | - |" in text
    assert "| bars of the other world | not yet run | - |" in text


def test_calibration_says_which_commit_it_is_of_and_averages_only_what_is_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "synthetic").mkdir()
    worlds = {"seed 0": {"frozen": 20.0, "within precision": 0.5}, "seed 1": {"frozen": 30.0}}

    def lines(table):
        (tmp_path / "synthetic" / "calibration.json").write_text(json.dumps(table))
        return report._calibration()

    assert "**The file names no commit.**" in lines(worlds)[-1]
    found = lines({"commit": "0123456789-dirty"} | worlds)
    assert found[-1] == "Commit 0123456-dirty."
    assert found[4:7] == ["| 0 | 20.0 | 0.50 |", "| 1 | 30.0 | - |", "| mean | 25.0 | - |"]


def test_runs_without_labels_enter_no_mean(rendered):
    blank = row("HiTPro", 1, 0.0) | {"result": {"step": 40}, "frozen": {}}
    text = rendered([row("HiTPro", 0, 40.0), blank, row("cap", 0, 41.0), row("cap", 1, 41.0)])
    assert "| HiTPro | 40.0 / 40.0 | no labels | - |" in text
    assert "nan" not in text
    text = rendered([row("HiTPro, cameras", 0, 40.0), blank | {"variant": "HiTPro, cameras"}], "settings")
    assert "| HiTPro | 40.0 |" in text
    assert "nan" not in text


def test_rows_of_earlier_releases_are_read_by_the_names_of_today(tmp_path):
    old = {"variant": "HiTPro", "config": {"data.preset": "medium", "data.trial": 3, "data.seed": 11}}
    (tmp_path / "rows.json").write_text(json.dumps([old, {"variant": "without a config"}]))
    new = {"data.llcm.trial": 3, "data.regdb.trial": 3, "data.sysu_mm01.trial": 3}
    assert records.load(tmp_path / "rows.json") == [
        old | {"config": {"data.synthetic.preset": "medium", "data.seed": 11, **new}},
        {"variant": "without a config"},
    ]
    assert records.load(tmp_path / "none.json") == []


def test_harder_worlds_stand_side_by_side(rendered):
    rows = [
        row("HiTPro, cameras", 0, 40.0),
        row("HiTPro, cameras", 1, 50.0),
        row("cap, open_set", 0, 30.0),
        row("HiTPro, open_set", 0, 35.0),
    ]
    text = rendered(rows, "settings")
    assert "| | cameras, seed 0 / 1 | contaminated | unbalanced | open_set, seed 0 |" in text
    assert "| HiTPro | 40.0 / 50.0 | not yet run | not yet run | 35.0 |" in text
    assert "| frozen | 1.0 / 1.0 | not yet run | not yet run | 1.0 |" in text
    assert "to 0.12 of the tracklets whose person is seen in one modality alone" in text
    assert "**Ahead of HiTPro** there: none of those run." in text
    assert "chosen on data seed 0" not in text
    text = rendered([*rows, row(sweeps.STRICTER, 0, 45.0)], "settings")  # a variant of ours is no baseline
    assert "chosen on data seed 0, these are 0.12 and 0.25, at 45.0 mAP" in text
    assert "there: none of those run." in text
    text = rendered([*rows[:3], row("pgm, cameras", 0, 46.0), row("pgm, cameras", 1, 46.0)], "settings")
    assert "**Ahead of HiTPro** there: pgm on cameras (46.0 to 45.0)." in text
    assert "modality alone" not in text
    text = rendered([*rows, row("pgm, cameras", 1, 46.0)], "settings")  # ahead of the mean, not on its own world
    assert "| pgm | - / 46.0 |" in text
    assert "there: none of those run." in text


@pytest.mark.parametrize("base", [synthetic, vcm])
def test_sweeps_name_fields_that_exist_and_change_them(base):
    for variants in sweeps.SWEEPS.values():
        seen = set()
        for name, overrides in variants():
            config = base.get_config()
            before = config.to_json_best_effort()
            config.update_from_flattened_dict(
                {
                    field: len(str(value)) / 100 if isinstance(value, sweeps.BarOf) else value
                    for field, value in overrides.items()
                }
            )
            assert (config.to_json_best_effort() == before) == (not overrides), name
            seen.add(config.to_json_best_effort())
        assert len(seen) == len(list(variants()))


def test_the_ladder_ends_at_the_config_as_it_is():
    rungs = [set(overrides) for _, overrides in sweeps.components()]
    assert rungs[-1] == set()
    assert all(above < below for below, above in itertools.pairwise(rungs))


def test_each_baseline_stands_with_the_best_of_its_settings():
    rows = json.loads((report.RESULTS / "evidence" / "tuning.json").read_text())
    found = {row["variant"]: np.mean(records.scores(row)) for row in rows if row["seed"] == 0}
    assert set(found) == {name for name, _ in sweeps.tuning()}
    for name, chosen in sweeps.CHOSEN.items():
        assert chosen == max((v for v in found if v.split(",")[0] == name), key=found.get)


def test_the_config_of_an_earlier_release_has_no_changed_field_that_only_moved():
    config = json.loads(synthetic.get_config().to_json_best_effort())
    data = config["data"]
    today = records.changed(config)
    data.pop("synthetic", None)
    data |= {"preset": "small", "camera_seed": 0}
    assert records.changed(config) == today
    data["preset"] = "medium"
    assert records.changed(config) == today | {"data.synthetic.preset": "medium"}


def test_rows_hold_the_config_that_is_not_the_usual_one():
    config = synthetic.get_config()
    config.cap.eps = 0.4
    changed = records.changed(json.loads(config.to_json_best_effort()))
    assert changed["cap.eps"] == 0.4
    assert changed["data.image_size"] == [64, 32]
    assert "batch.partner_share" not in changed


@pytest.fixture
def workdirs(tmp_path):
    """Finished runs of two variants with two seeds, and one that did not finish."""
    for variant, seed, score in (("1_parts", 0, 30.0), ("1_parts", 1, 34.0), ("HiTPro", 0, 40.0), ("HiTPro", 1, 50.0)):
        folder = tmp_path / variant / f"seed{seed}"
        folder.mkdir(parents=True)
        evals = [
            {"step": step, "eval/i2v/mAP": value - 1, "eval/v2i/mAP": value + 1}
            for step, value in ((0, 20.0), (40, score))
        ]
        refresh = {"step": 1, "align/within/precision": 0.7, "align/cross/precision": 0.25, "bank/reliability": 0.9}
        (folder / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in (evals[0], refresh, evals[1])))
        result = {key: {"mAP": score + sign, "rank1": 7.0, "cmc": [0.1]} for key, sign in (("i2v", -1), ("v2i", 1))}
        (folder / "result.json").write_text(json.dumps({"step": 40, **result}))
        (folder / "config.json").write_text(json.dumps({"seed": seed, "data": {"seed": 0}}))
        (folder / "env.json").write_text(json.dumps({"git": "abc", "devices": {"cpu": 1}, "cores": 2}))
    (tmp_path / "HiTPro" / "seed2").mkdir()
    return tmp_path


def test_tables_and_curves_of_workdirs(workdirs, tmp_path):
    out = tmp_path / "figures"
    subprocess.run(
        [sys.executable, "-m", "experiments.tables", f"--workdirs={workdirs}", f"--out={out}"],
        check=True,
        cwd=report.README.parent,
    )
    table = (out / "table.md").read_text().splitlines()
    assert table[2:] == [
        "| frozen encoder | 19.0 / 21.0 | 19.0 / 21.0 | 20.0 |",
        "| HiTPro | 39.0 / 41.0 | 49.0 / 51.0 | 45.0 ± 7.1 |",
        "| 1 parts | 29.0 / 31.0 | 33.0 / 35.0 | 32.0 ± 2.8 |",
    ]
    with open(out / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["variant"], r["seed"], r["mean mAP of i2v and v2i"], r["align/cross/precision"]) for r in rows][:2] == [
        ("HiTPro", "0", "40.0", "0.25"),
        ("HiTPro", "1", "50.0", "0.25"),
    ]
    assert len(np.unique(cv2.imread(str(out / "curves.png")))) > 10


def test_rows_of_workdirs_hold_every_refresh_and_unlabelled_runs_say_so(workdirs):
    found = records.record("HiTPro", "0", workdirs / "HiTPro" / "seed0", None)
    assert found["every refresh"] == {"align/within/precision": [0.7], "align/cross/precision": [0.25]}
    assert found["last refresh"] == {"align/within/precision": 0.7, "align/cross/precision": 0.25}
    unlabelled = found | {"result": {"step": 40}}
    assert records.markdown([unlabelled], ["HiTPro", "1 parts"])[-2:] == [
        "| HiTPro | no labels | - |",
        "| 1 parts | not yet run | - |",
    ]


def test_curves_are_of_the_steps_that_all_runs_have(workdirs):
    runs = tables.finished(workdirs)["HiTPro"]
    with open(runs[0] / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 80, "eval/i2v/mAP": 60.0}) + "\n")
    steps, values = tables.curve(runs, tables.CURVES["mAP in %"])
    assert steps.tolist() == [0, 40]
    assert values.tolist() == [[20.0, 40.0], [20.0, 50.0]]
