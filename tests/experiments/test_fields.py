"""What a sweep may set: fields that change a figure on the data set, each once."""

import pytest

from configs import own_video, synthetic, vcm
from experiments import fields


@pytest.mark.parametrize(
    ("config", "name", "reason"),
    [
        (synthetic, "data.seed", None),
        (vcm, "data.seed", "draws the people of the synthetic world, and data.name is hitsz_vcm"),
        (own_video, "data.seed", "draws the people of the synthetic world, and data.name is mot"),
        (vcm, "data.synthetic.preset", "is of the data set synthetic, and data.name is hitsz_vcm"),
        (vcm, "data.hitsz_vcm.repair", None),
        (vcm, "seed", None),
        (synthetic, "data.num_workers", "changes no figure"),
    ],
)
def test_fields_without_effect_are_known_by_the_data_set(config, name, reason):
    assert fields.no_effect(config.get_config(), name) == reason


def test_the_default_seed_has_an_effect_on_every_data_set():
    for config in (synthetic, vcm, own_video):
        made = config.get_config()
        assert fields.no_effect(made, fields.default_seed_field(made)) is None
    assert fields.default_seed_field(synthetic.get_config()) == "data.seed"


@pytest.mark.parametrize(
    ("config", "seed_field", "varied", "overridden", "reason"),
    [
        (synthetic, "data.seed", {"within.rule"}, {"train.epochs"}, None),
        (synthetic, "data.seeds", (), (), "is no field of whole numbers"),
        (synthetic, "data.cache", (), (), "is no field of whole numbers"),
        (vcm, "data.seed", (), (), "all seeds would be one run"),
        (vcm, "data.regdb.trial", (), (), "is of the data set regdb"),
        (vcm, "train.log_every", (), (), "changes no figure"),
        (vcm, "seed", {"seed"}, (), "--seed_field: the sweep sets seed itself"),
        (vcm, "seed", (), {"seed"}, "--config.seed: the sweep sets this field itself"),
        (vcm, "seed", {"loss.intra"}, {"loss.intra"}, "--config.loss.intra: the sweep sets this field itself"),
        (synthetic, "data.seed", (), {"data.root"}, "--config.data.root: one folder holds one world, and data.seed"),
        (synthetic, "seed", {"data.synthetic.preset"}, {"data.root"}, "and data.synthetic.preset draws several"),
        (synthetic, "seed", (), {"data.root"}, None),
        (vcm, "seed", (), {"data.root"}, None),
        (vcm, "seed", {"data.synthetic.preset"}, (), "the sweep sets data.synthetic.preset, which is of the data set"),
    ],
)
def test_sweeps_that_would_change_nothing_or_cannot_run_are_refused(config, seed_field, varied, overridden, reason):
    found = fields.refusal(config.get_config(), seed_field, varied, overridden)
    assert found is None if reason is None else reason in found
