"""A workdir with a screen that can be read, and a clock that stands still."""

import io
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from hitpro_jax.workdir import Workdir, console

SCORES = {"rank1": 50.0, "rank5": 75.5, "rank10": 80.0, "rank20": 90.0, "mAP": 45.123, "mINP": 30.0}
TITLES = {"i2v": "infrared to visible", "v2i": "visible to infrared"}


@dataclass
class Scored:
    """What tables and files need of a result."""

    step: int = 300
    protocol: str = "HITSZ-VCM"
    setting: str = ""
    scores: dict = field(default_factory=lambda: {"i2v": SCORES, "v2i": SCORES | {"mAP": float("nan")}})

    def rows(self):
        return [(TITLES[key], figures) for key, figures in self.scores.items()]

    def to_json(self):
        return {"protocol": self.protocol, "step": self.step, **self.scores}


@pytest.fixture
def result():
    return Scored()


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), width=100)


@pytest.fixture
def workdir(tmp_path, screen):
    with Workdir(tmp_path / "run", screen) as workdir:
        yield workdir


@pytest.fixture
def clock(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    return clock
