"""Opening a run: the config read whole, each part made when it is first asked for, and what training may know."""

import jax
import numpy as np
import pytest

from configs import base
from hitpro_jax import run as runs
from hitpro_jax.data.records import Tracklet
from hitpro_jax.run import open_run, read_options
from hitpro_jax.sharding import make_mesh
from hitpro_jax.types import IR, RGB
from hitpro_jax.workdir import Workdir
from tests.runs import opened
from tests.settings import changed, load


def test_all_faults_are_reported_at_once():
    config = load("synthetic")
    config.update_from_flattened_dict(
        {
            "loss.temperature": -0.05,
            "optim.learning_rate": -1.0,
            "prototypes.momentum": 1.5,
            "optim.name": "adan",
            "method.name": "adka",
            "data.synthetic.preset": "huge",
            "within.reciprocity": 500,
            "clusters.k1": 1,
        }
    )
    with pytest.raises(ValueError) as error:  # noqa: PT011 - what it says is compared below
        read_options(config)
    first, *lines = str(error.value).splitlines()
    assert first == "8 fields of the config cannot be used:"
    assert {line.split()[0] for line in lines} == {
        "loss.temperature",
        "optim.learning_rate",
        "prototypes.momentum",
        "optim.name",
        "method.name",
        "data.synthetic.preset",
        "within.reciprocity",
        "clusters.k1",
    }
    assert "  loss.temperature is -0.05: give a number above 0" in lines
    assert "  prototypes.momentum is 1.5: give a number at least 0 and at most 1" in lines
    assert "  optim.name is 'adan': choose one of adam, adamw, sgd" in lines


def test_faults_are_found_before_data_are_read(tmp_path):
    config = load("vcm")
    config.data.root, config.optim.name = str(tmp_path / "nothing"), "adan"
    with Workdir(tmp_path / "run") as workdir, pytest.raises(ValueError, match="optim.name is 'adan'"):
        open_run(config, workdir)


def test_options_hold_what_the_config_holds():
    config = load("synthetic")
    options = read_options(config)
    assert options.within.rho == (0.85, 0.8)
    assert options.optim.warmup_steps == 30
    assert options.more["data.synthetic"].preset == "small"
    assert options.more["cap"].k1 == 20
    hash(options.within)


def test_the_log_says_where_the_weights_come_from(tmp_path):
    """Random weights of a large encoder are the commonest reason for a run that learns nothing."""
    config = load("synthetic")
    for weights in (config.init.weights, ""):
        config.init.weights = weights
        with opened(config, tmp_path) as made:
            made.initial_variables()
    first, second = (tmp_path / "log.txt").read_text().splitlines()
    assert first.startswith("weights: ")
    assert "resnet_small.safetensors" in first
    assert second.startswith("note: resnet_small starts from random weights")


def test_supervised_without_ids_is_refused():
    with pytest.raises(ValueError, match="and 2 have none: label them"):
        runs.identities_of(np.array([3, -1, 3, -1]), 8, "supervised")


def test_image_methods_get_the_mean_of_frame_features_and_say_so(tmp_path):
    config = base.get_config()
    assert runs.adaptation(read_options(config)) is None
    config.method.name = "pgm"
    with opened(config, tmp_path) as run:
        assert run.options.encoder.aggregator == run.record["encoder"]["aggregator"] == "mean"
        assert run.encoder_record["aggregator"] == "mean"
    assert "aggregator is mean, not attention" in (tmp_path / "log.txt").read_text()
    assert config.encoder.aggregator == "attention"  # the caller's config stays as it is
    config.encoder.aggregator = "mean"
    assert runs.adaptation(read_options(config)) is None
    config.encoder.order = "motion"
    assert runs.adaptation(read_options(config)).endswith("features: encoder.order is none, not motion")
    with opened(config, tmp_path) as run:
        assert run.options.encoder.order == run.encoder_record["order"] == "none"
    config.method.name = "supervised"
    assert runs.adaptation(read_options(config)) is None


def test_a_part_that_is_not_asked_for_is_not_made(tmp_path):
    """A command that needs the encoder alone does not read data, and one that needs data makes no encoder."""
    config = changed("synthetic", **{"data.name": "hitsz_vcm", "data.root": str(tmp_path / "nothing")})
    with opened(config, tmp_path / "run") as run:
        assert {"mesh", "encoder", "opened", "training"}.isdisjoint(vars(run))
        assert run.encoder is run.encoder
        assert {"mesh", "opened", "reader", "training"}.isdisjoint(vars(run))
        with pytest.raises(FileNotFoundError, match="nothing"):
            _ = run.dataset
        assert {"opened", "training"}.isdisjoint(vars(run))


def test_a_method_that_does_not_train_has_no_last_step(tmp_path):
    for name, last in (("hitpro", 6), ("frozen", 0)):
        fields = {"method.name": name, "train.epochs": 2, "train.steps_per_epoch": 3, "optim.warmup_steps": 1}
        with opened(changed("synthetic", **fields), tmp_path) as run:
            assert run.last_step == last


TRACKLETS = (Tracklet(("a", "b"), IR, 3), Tracklet(("c",), RGB, 3), Tracklet(("d",), IR, 3), Tracklet(("e",), IR, 1))


def test_the_training_set_knows_modality_camera_and_view_alone():
    data = runs.training_set(TRACKLETS, make_mesh())
    assert data.tracklets == TRACKLETS
    assert data.info.modality.tolist() == [IR, RGB, IR, IR]
    assert data.info.camera.tolist() == [3, 3, 3, 1]
    assert data.info.view[0] == data.info.view[2]
    assert len(set(data.info.view.tolist())) == data.num_views == 3
    assert data.info.valid.all()
    assert {column.dtype for column in data.info[:3]} == {np.dtype(np.int32)}
    padded = jax.device_get(data.bank_info)
    assert len(padded.valid) == runs.BANK_MULTIPLE
    for column, rows in zip(data.info, padded, strict=True):
        assert rows[:4].tolist() == column.tolist()
        assert not rows[4:].any()  # padding is not valid


@pytest.mark.parametrize(("tracklets", "rows"), [(1, 256), (256, 256), (257, 512), (11_061, 11_264)])
def test_rows_of_the_bank_suit_many_device_counts(tracklets, rows):
    assert runs.bank_rows(tracklets, make_mesh()) == rows


def test_rows_of_the_bank_are_cut_evenly_over_any_number_of_devices(monkeypatch):
    monkeypatch.setattr(runs, "pad_rows", lambda rows, mesh: -(-rows // mesh) * mesh)
    assert runs.bank_rows(257, 3) == 513


def test_identities_are_dense_and_padding_has_none():
    identities = runs.identities_of(np.array([7, 3, 7, 90]), 6, "supervised")
    assert identities.tolist() == [1, 0, 1, 2, -1, -1]
    assert identities.dtype == np.int32


@pytest.mark.parametrize(
    "other",
    [
        TRACKLETS[::-1],
        TRACKLETS[:3],
        (Tracklet(("a", "x"), IR, 3), *TRACKLETS[1:]),
        (Tracklet(("a", "b"), RGB, 3), *TRACKLETS[1:]),
        (Tracklet(("a", "b"), IR, 4), *TRACKLETS[1:]),
    ],
    ids=["order", "fewer", "frame", "modality", "camera"],
)
def test_the_fingerprint_is_that_of_the_tracklets_in_their_order(other):
    assert runs.fingerprint(TRACKLETS) == runs.fingerprint(tuple(TRACKLETS))
    assert runs.fingerprint(other) != runs.fingerprint(TRACKLETS)


def test_a_section_that_came_after_the_file_of_a_config_has_its_defaults():
    config = load("synthetic")
    config.unlock()
    del config.sdcl, config.data.regdb
    assert read_options(config) == read_options(load("synthetic"))


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("sdcl", None, "sdcl is None: give a section of fields, as configs/base.py makes it"),
        ("data.regdb", 3, "data.regdb is 3: give a section of fields, as configs/base.py makes it"),
        ("cap.k1", 5, "cap.k1 is 5: give at least clusters.k2, which is 6"),
        ("clusters.k2", 31, "clusters.k2 is 31: give at most k1, which is 30"),
        ("data.protocol", "full", "unknown data.protocol 'full' of synthetic; choose one of synthetic"),
        ("data.name", "market", "data.name is 'market': choose one of "),
    ],
)
def test_a_fault_of_a_section_or_a_list_is_one_sentence(field, value, sentence):
    config = changed("synthetic", **{"method.name": "cap"})
    config.unlock()
    section, _, name = field.rpartition(".")
    holder = config[section] if section else config
    with holder.ignore_type():
        holder[name] = value
    with pytest.raises(ValueError) as error:  # noqa: PT011 - what it says is compared below
        read_options(config)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)
