"""--mode=check: what it logs, and that it leaves no trace of a training."""

import jax
import pytest

from hitpro_jax.commands import check
from tests.runs import opened, tiny_config


@pytest.mark.slow
def test_check_logs_costs_and_saves_nothing(world, tmp_path, capsys, monkeypatch):
    with opened(tiny_config(world), tmp_path) as run:
        figures = check.check(run)
        monkeypatch.setattr(check, "check", lambda run: figures)
        check.main(run)
    assert figures["devices"] == jax.device_count()
    assert figures["parameters"] > 500_000
    assert all(figures[name] > 0 for name in ("step GFLOP", "step temporaries MiB", "refresh temporaries MiB"))
    assert "refresh GFLOP" not in figures  # XLA counts the body of a loop once, and a refresh is made of loops
    assert figures["embedding clips/s"] > 0
    assert figures["embedding temporaries MiB"] > 0
    assert figures["steps/s"] > 0
    assert figures["clips/s"] == 8 * figures["steps/s"]
    assert figures["refresh seconds"] > 0
    # one device has nobody to talk to
    assert not any(name.endswith(("gathers", "reduces", "permutes")) for name in figures)
    printed = capsys.readouterr().out
    assert all(name in printed for name in figures)
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]
