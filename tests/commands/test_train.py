"""`--mode=train`: result.json is written, and a finished run is only reported again."""

import json

from hitpro_jax.commands import train
from tests.runs import opened, tiny_config


def test_finished_run_is_only_reported_again(finished, world):
    workdir, result = finished
    (workdir / "env.json").write_text('{"git": "the commit that trained"}')
    before = {name: (workdir / name).read_text() for name in ("metrics.jsonl", "config.json", "env.json")}
    with opened(tiny_config(world), workdir) as made:
        train.main(made)
    assert json.loads((workdir / "result.json").read_text()) == result
    assert (workdir / "log.txt").read_text().splitlines()[-1] == f"result: {workdir}/result.json"
    assert before == {name: (workdir / name).read_text() for name in before}
