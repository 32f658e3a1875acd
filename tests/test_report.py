"""Sweeps name real fields, and the README's tables are those of the result files."""

import json
import subprocess
import sys

from configs import synthetic
from experiments import report, sweeps


def test_readme_equals_the_result_files():
    text = report.README.read_text()
    assert report.insert(text) == text, "run python -m experiments.report"


def test_missing_results_are_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.render().count("not yet run") == 3


def test_a_baseline_ahead_of_hitpro_is_named(tmp_path, monkeypatch):
    def row(variant, seed, mean):
        return {"variant": variant, "seed": seed, "result": {key: {"mAP": mean} for key in ("i2v", "v2i")},
                "frozen": {"i2v": 1.0, "v2i": 1.0}, "minutes": 2.0, "commit": "abc", "devices": {"cpu": 1}, "cores": 2}

    monkeypatch.setattr(report, "RESULTS", tmp_path)
    rows = [row("HiTPro", 0, 40.0), row("HiTPro", 1, 40.0), row("cap", 0, 41.5), row("pgm", 1, 39.0),
            row("supervised", 0, 60.0)]
    rows[2]["result"]["v2i"]["mAP"] = 39.0  # ahead in one direction alone
    (tmp_path / "methods.json").write_text(json.dumps(rows))
    assert "**Ahead of HiTPro**: cap on seed 0, infrared to visible (41.5 to 40.0)." in report.render()
    assert "| cap | 41.5 / 39.0 | not yet run | - |" in report.render()
    (tmp_path / "methods.json").write_text(json.dumps([row for row in rows if row["variant"] != "cap"]))
    assert "**Ahead of HiTPro**: none of the unsupervised methods run so far." in report.render()


def test_sweeps_name_fields_that_exist_and_change_them():
    for variants in sweeps.SWEEPS.values():
        seen = set()
        for name, overrides in variants():
            config = synthetic.get_config()
            before = config.to_json_best_effort()
            config.update_from_flattened_dict(overrides)
            assert (config.to_json_best_effort() == before) == (not overrides), name
            seen.add(config.to_json_best_effort())
        assert len(seen) == len(list(variants()))


def test_dry_run_prints_one_command_a_run():
    done = subprocess.run([sys.executable, "-m", "experiments.sweep", "--dry_run", "--seeds=3,4"], check=True,
                          capture_output=True, text=True, cwd=report.README.parent)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(list(sweeps.components()))
    assert all("-m hitpro_jax.main --config=configs/synthetic.py --workdir=" in line for line in lines)
    assert sum("--config.data.seed=4" in line for line in lines) == len(lines) // 2
