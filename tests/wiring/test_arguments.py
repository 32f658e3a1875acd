"""What a run hands to its parts: each part is called here once more with the same values by name, and must agree."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from hitpro_jax import diagnostics, sharding, steps, train
from hitpro_jax import run as runs
from hitpro_jax.commands import compile_ahead
from hitpro_jax.data import pipeline, sampling
from hitpro_jax.data.records import Tracklet
from hitpro_jax.data.sets import DIRECTION_TITLES, SPECS
from hitpro_jax.kernels.mining import stages
from hitpro_jax.kernels.search import exact, ivf
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.hitpro import HiTPro
from hitpro_jax.models import resnet
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.models.temporal import MeanPool
from hitpro_jax.options import FREE_FIELDS, LENGTH, AlignmentOptions, Options
from hitpro_jax.run import fingerprint
from hitpro_jax.sharding import make_mesh, parameter_sharding, to_global
from hitpro_jax.types import INTERLEAVED, IR, IR_ONLY, RGB, RGB_ONLY, Clips
from tests.wiring import tiny

pytestmark = pytest.mark.usefixtures("tiny_backbone")

# other values than the defaults, none twice where two could be taken for each other
OTHERS = {
    "seed": 3,
    "train.epochs": 3,
    "train.steps_per_epoch": 4,
    "batch.tracklets_per_modality": 4,
    "batch.clips_per_tracklet": 1,
    "batch.clip_length": 3,
    "batch.partner_share": 0.75,
    "augment.flip": 0.4,
    "augment.pad": 0.2,
    "augment.erase": 0.6,
    "augment.colour": 0.9,
    "prototypes.parts": 3,
    "prototypes.clip_length": 2,
    "prototypes.batch_size": 5,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> str:
    return tiny.write_folder(tmp_path_factory.mktemp("noise") / "folder")


@pytest.fixture
def opened(root, tmp_path):
    return lambda **given: tiny.opened(tmp_path, {"data.root": root, **given})


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        for name, values, wanted in zip(Clips._fields, batch, other, strict=True):
            np.testing.assert_array_equal(values, wanted, err_msg=name)


# ------------------------------------------------------------------------------------------------ batches


def partners_of(run, state) -> sampling.Partners:
    """Of the tracklets, without the padding of the bank."""
    mined = tiny.mined(run, state)
    tables = mined.within.index, mined.within.weight, mined.across.index, mined.across.weight
    return sampling.Partners(*(table[: tiny.TRACKLETS] for table in tables))


def planned(run, epoch: int, partners, eligible=None) -> np.ndarray:
    info = run.training.data.info
    return sampling.plan_epoch(
        3, epoch, info.view, info.modality, steps=4, batch=run.options.batch, partners=partners, eligible=eligible
    )


@pytest.mark.parametrize("step", [0, 5, 10])
def test_batches_are_those_of_seed_epoch_step_and_positives(opened, step):
    with opened(**OTHERS) as run:
        state, options = tiny.with_positives(run), run.options
        plan = planned(run, step // 4, partners_of(run, state))
        expected = pipeline.train_batches(
            run.reader,
            run.training.data.tracklets,
            plan,
            clip_length=3,
            seed=3,
            epoch=step // 4,
            start_step=step % 4,
            augmentation=options.augment,
            reading=pipeline.ClipReading(),
        )
        assert_same(list(train.epoch_batches(run, state, step)), list(expected))
        assert options.augment.flip == 0.4


def test_every_table_of_positives_makes_a_difference_to_the_plan(opened):
    """So that the test above would notice a table that is left out or taken for another."""
    with opened(**OTHERS) as run:
        partners = partners_of(run, tiny.with_positives(run))
        plan = planned(run, 1, partners)
        for other in (
            partners._replace(within_index=None),
            partners._replace(within_weight=None),
            partners._replace(across_index=None),
            partners._replace(across_weight=None),
            partners._replace(across_index=partners.within_index),
            partners._replace(across_weight=partners.within_weight),
            partners._replace(within_weight=partners.across_weight),
            partners._replace(within_weight=partners.within_weight[:, ::-1]),
            partners._replace(across_weight=partners.across_weight[:, ::-1]),
        ):
            assert (planned(run, 1, other) != plan).any()


def test_tracklets_without_a_cluster_are_left_to_the_rotation_of_none(opened):
    with opened(**OTHERS, **{"method.name": "pgm"}) as run:
        state, label = run.training.state, np.full(len(run.training.data.bank_info.valid), -1, np.int32)
        label[: tiny.TRACKLETS : 2] = 0
        label[1 : tiny.TRACKLETS : 3] = 1
        state = state._replace(memory=state.memory._replace(label=label))
        plan = planned(run, 0, partners_of(run, state), label[: tiny.TRACKLETS] >= 0)
        assert (plan != planned(run, 0, partners_of(run, state))).any()
        assert [batch.tracklet.tolist() for batch in train.epoch_batches(run, state, 0)] == plan.tolist()


def test_clips_of_a_refresh_are_those_of_the_config(opened):
    with opened(**OTHERS) as run:
        expected = pipeline.part_clips(
            run.reader,
            run.training.data.tracklets,
            parts=3,
            clip_length=2,
            batch_size=5,
            rows=len(run.training.data.bank_info.valid),
            reading=pipeline.ClipReading(),
        )
        assert_same(list(train.part_batches(run)), list(expected))


def test_this_process_reads_its_own_part(opened, monkeypatch):
    with opened(**{"data.num_workers": 2}) as run:
        _ = run.reader
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        monkeypatch.setattr(jax, "process_count", lambda: 3)
        assert run.reading == pipeline.ClipReading(1, 3, 2)
        assert run.embedder.reading == run.reading


@pytest.mark.parametrize("taken", ["train_batches", "part_clips"])
def test_batches_are_read_by_the_run(opened, monkeypatch, taken):
    seen = {}
    monkeypatch.setattr(pipeline, taken, lambda *_, **given: seen.update(given))
    with opened() as run:
        state, rows = run.training.state, len(run.training.data.bank_info.valid)
        monkeypatch.setattr(runs.Run, "reading", "the run's own")
        _ = train.part_batches(run) if taken == "part_clips" else train.epoch_batches(run, state, 0)
    assert seen["reading"] == "the run's own"
    assert seen.get("rows", rows) == rows  # of which each process has its share


# -------------------------------------------------------------------------------------------- refresh and step


def test_a_refresh_embeds_with_the_state_and_puts_every_part_in_its_place(opened, monkeypatch):
    with opened(**OTHERS) as run:
        state = run.training.state._replace(params={"of": np.ones(1)}, batch_stats={"a later": np.ones(1)})
        seen = {}

        def embed(variables, frames, mask, layout):
            assert variables["params"] is state.params
            assert variables["batch_stats"] is state.batch_stats
            assert np.asarray(mask).any(1).tolist() == mask[:, 0].tolist()
            seen.setdefault("layouts", []).append(layout)
            return jax.numpy.asarray(frames).reshape(len(frames), -1)[:, : tiny.DIM].astype(np.float32) + 1.0

        def refreshed(state, parts, mask, info):
            seen.update(parts=np.asarray(parts), mask=np.asarray(mask))
            return state

        made = run.training._replace(steps=run.training.steps._replace(refresh=refreshed))
        monkeypatch.setitem(run.__dict__, "training", made)
        run.embed = embed
        monkeypatch.setattr(diagnostics, "summary", lambda figures: "")
        train.refresh(run, state, 0)
        tracklets, rows = run.training.data.tracklets, len(run.training.data.bank_info.valid)
        assert seen["parts"].shape == (rows, 3, tiny.DIM)
        for number, tracklet in enumerate(tracklets):
            index, present = sampling.part_frames(len(tracklet.frames), 3, 2)
            assert seen["mask"][number].tolist() == present.tolist()
            for part in np.flatnonzero(present):
                frames = np.stack([run.reader(tracklet.frames[i]) for i in index[part]])
                np.testing.assert_array_equal(seen["parts"][number, part], frames.reshape(-1)[: tiny.DIM] + 1.0)
        assert not seen["mask"][len(tracklets) :].any()
        assert set(seen["layouts"]) == {"rgb", "ir"}


def test_progress_reaches_the_loss(opened):
    """The weights of the levels follow the step: 12 steps, of which each level's begin and ramp are shares."""
    given = {"loss.within_begin": 0.25, "loss.across_begin": 0.5, "loss.ramp": 0.5, "loss.across": 0.75}
    with opened(**OTHERS, **given) as run:
        training, found = run.training, {}
        start = jax.tree.map(np.array, training.state)  # a step gives the buffers of its state up
        clips = to_global(next(train.epoch_batches(run, training.state, 0)), run.mesh)
        for step in (0, 6, 9):
            state = jax.device_put(start._replace(step=np.int32(step)), training.shardings)
            state, metrics = training.steps.train(state, clips, training.data.bank_info, INTERLEAVED)
            found[step] = float(metrics["weight_within"]), float(metrics["weight_across"])
            assert state.step == step + 1
    for step, weights in {0: (0.0, 0.0), 6: (0.25, 0.0), 9: (0.5, 0.375)}.items():
        assert found[step] == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize("search", ["exact", "ivf"])
def test_both_stages_and_the_look_alikes_search_as_the_config_says(monkeypatch, search):
    alignment = AlignmentOptions(search=search, cells=5, probes=3)
    options = replace(Options(), alignment=alignment, loss=replace(Options().loss, same_view_rule="stage1"))
    method, seen = HiTPro.create(options, Setting(7, None, None)), {}

    def spied(name, function, *arguments, **given):
        seen[name] = given
        return function(*arguments, **given)

    for name in ("within_modality", "across_modalities", "same_view_ambiguity"):
        monkeypatch.setattr(stages, name, partial(spied, name, getattr(stages, name)))
    info = jax.tree.map(jax.numpy.asarray, (np.arange(9) % 2, np.arange(9) % 3, np.arange(9) % 6, np.arange(9) < 8))
    given = jax.ShapeDtypeStruct((9, 2, 4), np.float32), jax.ShapeDtypeStruct((9, 2), bool)
    jax.eval_shape(partial(method.refresh, info=runs.TrackletInfo(*info), progress=0.5), method.init(9, 4), *given)
    assert len(seen) == 3
    for given in seen.values():
        if search == "exact":
            assert given["search"] is exact.nearest
        else:
            assert given["search"].func is ivf.nearest
            assert given["search"].keywords == {"index": ivf.IvfIndex(7, 5, 3)}
    assert seen["within_modality"]["num_views"] == 7


def test_a_method_is_made_for_the_views_and_devices_of_the_run(opened):
    with opened() as run:
        assert run.training.method.num_views == run.training.data.num_views == 2 * tiny.CAMERAS
        assert run.training.method.mesh is None  # one device


def test_optimiser_state_is_cut_with_the_parameters():
    """Of four devices, none of which is here."""
    params = {
        "backbone": {"kernel": np.zeros((3, 3, 128, 256), np.float32)},
        "neck": {"scale": np.zeros(8, np.float32)},
    }
    method = HiTPro.create(Options(), Setting(4, None, None))
    mesh = AbstractMesh((4,), ("data",))
    state = steps.TrainState(np.int32(0), params, {"mean": np.zeros(2**17)}, {"momentum": params}, method.init(4, 8))
    whole, cut = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, None, None, "data"))
    found = steps.state_sharding(state, method, mesh, cut_parameters=True)
    expected = {"backbone": {"kernel": cut}, "neck": {"scale": whole}}
    assert found.params == found.opt_state["momentum"] == expected
    assert found.step == found.batch_stats["mean"] == whole
    found = steps.state_sharding(state, method, mesh, cut_parameters=False)
    assert set(jax.tree.leaves((found.params, found.opt_state, found.batch_stats, found.step))) == {whole}


@pytest.mark.parametrize("cut", [False, True])
def test_the_config_says_whether_parameters_are_cut(opened, monkeypatch, cut):
    monkeypatch.setattr(sharding, "SMALLEST_CUT", 0)
    with opened(**{"mesh.cut_parameters": cut}) as run:
        state, found = run.training.state, run.training.shardings
        for name in ("params", "opt_state"):
            wanted = parameter_sharding(getattr(state, name), run.mesh, cut=cut)
            assert jax.tree.leaves(getattr(found, name)) == jax.tree.leaves(wanted)
        assert any(leaf.spec for leaf in jax.tree.leaves(found.opt_state)) == cut


def test_the_encoder_has_every_switch_of_the_config(opened):
    given = {"encoder.norm_group": 4, "encoder.as_product": True, "encoder.remat": True, "encoder.dtype": "bfloat16"}
    with opened(**given) as run:
        backbone = tiny.backbone().make(norm_group=4, as_product=True, remat=True, dtype=jax.numpy.dtype("bfloat16"))
        assert run.encoder == Encoder(backbone, MeanPool(), 4)
        assert isinstance(run.encoder.backbone, resnet.ResNet)


def test_an_image_method_gets_the_mean_of_frames_when_its_run_is_opened(opened):
    with opened(**{"method.name": "pgm", "encoder.aggregator": "attention"}) as run:
        assert run.encoder.aggregator == MeanPool()
        assert run.options.encoder.aggregator == run.record["encoder"]["aggregator"] == "mean"
        assert run.encoder_record["aggregator"] == "mean"
    with opened(**{"encoder.aggregator": "attention"}) as run:
        assert run.options.encoder.aggregator == "attention"


# ------------------------------------------------------------------------------------- data, scores, checkpoints


def test_the_fingerprint_knows_frames_order_modality_and_camera():
    one, two = Tracklet(("a", "b"), RGB, 1), Tracklet(("c",), IR, 2)
    changed = [
        (two, one),
        (replace(one, camid=3), two),
        (replace(one, modality=IR), two),
        (replace(one, frames=("b", "a")), two),
        (replace(one, frames=("a",)), replace(two, frames=("b", "c"))),
        (one,),
    ]
    prints = [fingerprint(tracklets) for tracklets in [(one, two), *changed]]
    assert len(set(prints)) == len(prints)
    assert fingerprint((one, two)) == prints[0]


def test_info_of_the_bank_is_that_of_the_tracklets(opened):
    with opened(seed=2) as run:
        data = run.training.data
        order = np.random.default_rng(2).permutation(tiny.TRACKLETS)
        assert [tracklet.frames for tracklet in data.tracklets] == [run.dataset.train[i].frames for i in order]
        for column, of_bank in zip(data.info, data.bank_info, strict=True):
            assert np.asarray(of_bank)[: tiny.TRACKLETS].tolist() == column.tolist()
        assert data.info.modality.tolist() == [tracklet.modality for tracklet in data.tracklets]
        assert data.info.camera.tolist() == [tracklet.camid for tracklet in data.tracklets]
        assert data.info.view.tolist() == [
            tracklet.modality * tiny.CAMERAS + tracklet.camid for tracklet in data.tracklets
        ]
        assert not np.asarray(data.bank_info.valid)[tiny.TRACKLETS :].any()
        assert data.info.valid.all()


def test_diagnostics_know_persons_and_the_banned_camera(opened):
    for banned in (False, True):
        with opened(**{"across.ban_same_camera": banned}) as run:
            training = run.training
            state = tiny.with_positives(run)
            mined = tiny.mined(run, state)
            order = np.random.default_rng(run.options.seed).permutation(tiny.TRACKLETS)
            pids = np.array([run.dataset.train[i].pid for i in order])
            wanted = diagnostics.describe(mined, mined, training.data.info, pids, ban_same_camera=banned)
            assert training.describe(mined, mined) == wanted
            other = diagnostics.describe(mined, mined, training.data.info, pids, ban_same_camera=not banned)
            assert other != wanted


def test_scores_have_the_runs_protocol_step_and_titles(opened):
    with opened(**{"eval.frames": 3, "eval.batch_size": 4}) as run:
        given = {}

        def embed(variables, frames, mask, layout):
            given.update(variables)
            return np.asarray(frames).reshape(len(frames), -1)[:, :9].astype(np.float32)

        run.embed = embed
        result = run.evaluate({"params": "the encoder's"}, 17)
    assert given == {"params": "the encoder's"}
    assert result.step == 17
    assert result.protocol == "folder"
    assert result.setting == "3 frames of 16x8, camera rule"
    assert result.titles == DIRECTION_TITLES
    assert set(result.scores) == {"i2v", "v2i"}


def test_checkpoints_know_the_config_and_what_may_differ(opened, monkeypatch):
    monkeypatch.setattr(runs, "Checkpointer", lambda path, **given: (path, given))
    with opened() as run:
        path, given = run.checkpoints()
        assert path == run.workdir.path / "checkpoints"
        assert given["config"] == run.record
        others = {f"data.{name}" for name in SPECS} - {f"data.{run.options.data.name}"}
        assert set(given["ignore"]) == {*FREE_FIELDS, *LENGTH, *others}
        assert given["defaults"] == runs.defaults()
        assert not given["read_only"]
        _, given = run.checkpoints(read_only=True)
        assert given["config"] is None
        assert given["read_only"]


def test_shapes_of_devices_that_are_not_here_are_those_of_a_run(opened, monkeypatch):
    monkeypatch.setattr(compile_ahead, "bank_rows", lambda tracklets, mesh: 32)
    with opened(**OTHERS) as run:
        shapes, training = compile_ahead.stand_ins(run), run.training
        batch = next(train.epoch_batches(run, training.state, 0))
        for name, array, wanted in zip(Clips._fields, shapes.clips, batch, strict=True):
            assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype), name
        for array, wanted in zip(jax.tree.leaves(shapes.state), jax.tree.leaves(training.state), strict=True):
            assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
        assert shapes.parts.shape == (32, 3, tiny.DIM)
        assert shapes.mask.shape == (32, 3)
        assert shapes.layout == INTERLEAVED
        assert [column.shape for column in shapes.info] == [(32,)] * 4


def test_one_mesh_of_all_devices(opened):
    with opened() as run:
        assert run.mesh == make_mesh()


@pytest.mark.parametrize("layout", [RGB_ONLY, IR_ONLY])
def test_embedding_is_the_encoder_in_evaluation(opened, layout):
    """With running statistics, which a batch's own are not, and frames that do not count."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 3, *tiny.SIZE, 3), np.uint8)
    mask = np.array([[True, True, True], [True, False, True], [False, True, False], [True, True, False]])
    with opened() as run:
        state = run.training.state
        statistics = jax.tree.map(lambda leaf: rng.uniform(0.5, 2.0, leaf.shape).astype(np.float32), state.batch_stats)
        variables = {"params": state.params, "batch_stats": statistics}
        expected = run.encoder.apply(variables, frames, mask, layout, False).tracklet
        np.testing.assert_allclose(run.embed(variables, frames, mask, layout), expected, atol=1e-5)
