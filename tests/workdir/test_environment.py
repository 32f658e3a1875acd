"""What a run was computed with, and none of its secrets."""

import json

from hitpro_jax.workdir import environment


def test_environment_hides_secrets(workdir):
    workdir.environment(["main.py", "--config=configs/vcm.py", "--api_token=abc123", "--config.train.tokens=5"])
    found = json.loads((workdir.path / "env.json").read_text())
    assert found["command"][:3] == ["main.py", "--config=configs/vcm.py", "--api_token=***"]
    assert found["packages"]["jax"]
    assert found["devices"] == {"cpu": 1}
    assert {"python", "git", "processes"} <= found.keys()
    assert found["processor"]


def test_a_package_that_is_not_there_has_no_version():
    assert environment.version("no-such-package-of-this-name") is None


def test_outside_git_there_is_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(environment.subprocess, "run", missing)
    assert environment.git_commit() is None
