"""Opening a run: the config read whole, each part made when it is first asked for, and what training may know."""

import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import base
from hitpro_jax import resume
from hitpro_jax import run as runs
from hitpro_jax.data.records import Tracklet
from hitpro_jax.models.backbones import BACKBONES
from hitpro_jax.models.encoder import init_variables
from hitpro_jax.run import open_run, read_options
from hitpro_jax.sharding import make_mesh
from hitpro_jax.train import train
from hitpro_jax.types import IR, RGB
from hitpro_jax.workdir import Workdir
from tests.runs import opened
from tests.settings import changed, load
from tests.wiring import tiny


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
            _ = made.initial_variables
    first, second = (tmp_path / "log.txt").read_text().splitlines()
    assert first.startswith("weights: ")
    assert "resnet_small.safetensors" in first
    assert second.startswith("note: resnet_small starts from random weights")


@pytest.fixture
def noise(tmp_path, monkeypatch):
    """Opens a run of a tiny encoder on noise in a workdir of this test."""
    monkeypatch.setattr(runs, "BANK_MULTIPLE", 32)
    monkeypatch.setitem(BACKBONES, "tiny", tiny.backbone())
    root = tiny.write_folder(tmp_path / "folder")
    return lambda name, **given: tiny.opened(tmp_path / name, {"data.root": root, **given})


@pytest.fixture
def source(noise, tmp_path) -> str:
    """Workdir of a run of another seed and method, on two cameras, that has saved its encoder with attention."""
    fields = {"seed": 5, "method.name": "supervised", "encoder.aggregator": "attention", "optim.name": "adamw"}
    with noise("source", **fields) as run, run.checkpoints() as checkpoints:
        resume.save(run, checkpoints, 3, run.training.state)
    return str(tmp_path / "source")


def leaves(variables: dict) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}


@pytest.mark.parametrize("aggregator", ["attention", "mean"])
def test_training_starts_from_the_encoder_of_another_run(noise, source, tmp_path, aggregator):
    """Whose data, cameras, method, optimiser and seed are others; its memory and own parameters stay there."""
    fields = {"init.run": source, "encoder.aggregator": aggregator, "data.folder.csv": "fewer.csv", "seed": 6}
    with noise("source", **{"encoder.aggregator": "attention"}) as other:
        theirs = leaves(init_variables(other.encoder, tiny.SIZE, 5))
    with noise("run", **fields) as run:
        run.require_fit()
        state = run.training.state
        assert "method" not in state.params
        assert int(state.step) == 0
        ours = leaves(state.variables)
        assert {name for name in theirs if "aggregator" not in name or aggregator == "attention"} == ours.keys()
        for name, leaf in ours.items():
            np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)
        assert not np.asarray(state.memory.prototypes).any()
        assert run.record["init"]["run"] == source
    assert f"encoder: of the checkpoint at step 3 of {source}\n" in (tmp_path / "run" / "log.txt").read_text()


def test_an_aggregator_that_the_other_run_lacks_is_as_initialised(noise, tmp_path):
    with noise("source", seed=5) as run, run.checkpoints() as checkpoints:
        resume.save(run, checkpoints, 3, run.training.state)
    with noise("run", **{"init.run": str(tmp_path / "source"), "encoder.aggregator": "attention"}) as run:
        ours, initial = leaves(run.initial_variables), leaves(init_variables(run.encoder, tiny.SIZE, 0))
    for name, leaf in ours.items():
        if "aggregator" in name:
            np.testing.assert_array_equal(leaf, initial[name])
    assert any((leaf != initial[name]).any() for name, leaf in ours.items() if "backbone" in name)
    assert "it has no aggregator, so that is as initialised" in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_that_goes_on_does_without_the_run_that_it_started_from(noise, source):
    with noise("run", **{"init.run": source}) as run, run.checkpoints() as checkpoints:
        state = run.training.state
        resume.save(run, checkpoints, 2, state)
    shutil.rmtree(source)
    with noise("run", **{"init.run": source}) as run, run.checkpoints() as checkpoints:
        run.require_fit()
        restored = resume.restore(run, checkpoints)
        for array, wanted in zip(jax.tree.leaves(restored.state), jax.tree.leaves(state), strict=True):
            np.testing.assert_array_equal(array, wanted)
    with noise("run") as run, run.checkpoints() as checkpoints, pytest.raises(ValueError, match="init.run: saved "):
        resume.restore(run, checkpoints)


def test_an_encoder_of_other_shapes_is_refused_with_its_fields(noise, source, monkeypatch):
    monkeypatch.setitem(BACKBONES, "deep", tiny.backbone((1,)))
    sentence = f"init.run={source} has an encoder of other shapes .*backbone: saved tiny, now deep"
    with noise("run", **{"init.run": source, "encoder.backbone": "deep"}) as run:
        with pytest.raises(ValueError, match=sentence):
            run.require_fit()
        assert "opened" not in vars(run)  # before data are read


def test_where_to_start_from_is_one_thing_and_is_there(noise, tmp_path):
    with noise("run", **{"init.run": str(tmp_path / "nowhere")}) as run:
        with pytest.raises(
            FileNotFoundError, match="nowhere has no checkpoint: give the workdir of a run that has saved"
        ):
            run.require_fit()
        assert "opened" not in vars(run)
    with (
        pytest.raises(ValueError, match="init.run is 'a' and weights is 'b': give one of them"),
        noise("run", **{"init.run": "a", "init.weights": "b"}),
    ):
        pass


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"batch.tracklets_per_modality": 2}, "a batch of 8 clips cannot be cut over 5 devices: make "),
        (
            {"batch.tracklets_per_modality": 5, "encoder.norm_group": 6},
            "encoder.norm_group=6 does not divide the batch",
        ),
        ({"batch.tracklets_per_modality": 5, "init.weights": "nowhere.safetensors"}, "no weights at nowhere"),
    ],
)
def test_what_cannot_fit_is_refused_before_data_are_read(noise, monkeypatch, fields, sentence):
    monkeypatch.setattr(runs, "make_mesh", lambda devices: SimpleNamespace(size=5, devices=np.array(jax.devices())))
    with noise("run", **fields) as run:
        with pytest.raises((ValueError, OSError), match=sentence):
            train(run)
        assert "opened" not in vars(run)


def test_labels_made_on_one_host_are_refused_with_several_processes(noise, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for name, fits in (("hitpro", True), ("adca", False), ("cap", False)):
        with noise("run", **{"method.name": name}) as run:
            if fits:
                run.require_fit()
            else:
                with pytest.raises(ValueError, match="run it as a single process"):
                    run.require_fit()


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
