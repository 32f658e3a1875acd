"""Every field of the config that changes numbers is set to another value, and a change is looked for at the far end.

The far ends are the programs of a training step and of a refresh, as they are traced; the mined tables; the plan and
the pixels of a batch; and the tracklets that are opened. A run is opened for every field, so that a field that is read
but not handed on is found. `WALK` has the other values; a field that is in neither list is not tested, and fails.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np
import pytest

from hitpro_jax import resume, train
from hitpro_jax import run as runs
from hitpro_jax.commands import pack
from hitpro_jax.data import packed
from hitpro_jax.data.records import SPLITS
from hitpro_jax.data.sets import buptcampus, hitsz_vcm
from hitpro_jax.data.synthetic import world as worlds
from hitpro_jax.models import vit
from hitpro_jax.models.backbones import BACKBONES, BackboneSpec
from hitpro_jax.options import FREE_FIELDS
from hitpro_jax.run import Run
from hitpro_jax.steps import OWN_PARAMETERS, make_steps
from hitpro_jax.types import INTERLEAVED, Encoded
from tests.batches import clips_of
from tests.data.sets.test_hitsz_vcm import FILES, OVER
from tests.data.sets.test_llcm import LLCM
from tests.data.sets.test_mars import write_mars
from tests.data.sets.test_regdb import REGDB
from tests.data.sets.test_sysu_mm01 import SYSU
from tests.data.trees import write
from tests.test_configs import fields, load
from tests.wiring import loop, tiny

# Fields that change no number, and why. Each of them may differ between a run and the checkpoint that it goes on from.
NO_NUMBER = {
    "data.root": "where the data lie; the checkpoint knows its tracklets by their fingerprint",
    "data.cache": "frames are kept instead of read again",
    "data.packed": "the same frames from another file; packed_quality, which changes them, is in the walk",
    "data.num_workers": "who reads, not what is read",
    "data.jobs": "who draws or packs, not what is drawn",
    "mesh.cut_parameters": "where parameters lie",
    "train.log_every": "how often figures are written",
    "train.save_every": "how often the state is written",
    "train.save_steps": "how often the state is written",
}


# -------------------------------------------------------------------------------------------- what is looked at


def text_of(function: Callable, *arguments: Any, static: tuple[int, ...] = ()) -> str:
    """A function as it is traced, with the constants that it holds; without addresses of Python objects."""
    traced = jax.make_jaxpr(function, static_argnums=static)(*arguments)
    held = [np.asarray(each).tobytes() for each in traced.consts]
    return re.sub(r"0x[0-9a-f]+", "", f"{traced} {held}")


def step(run: Run) -> str:
    """The training step."""
    training, batch = run.training, next(iter(train.epoch_batches(run, run.training.state, 0)))
    return text_of(training.steps.train, training.state, batch, training.data.bank_info, INTERLEAVED, static=(3,))


def optimiser(run: Run) -> str:
    """The update of the optimiser that the steps are made with, of two small groups of parameters."""
    given = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "make_steps", lambda *arguments: given.extend(arguments) or make_steps(*arguments))
        run.build(run.training.data, run.training.method)
    params = {"backbone": {"kernel": np.ones(3, np.float32)}, "neck": {"scale": np.ones(3, np.float32)}}
    state = given[1].init(params)
    return f"{text_of(given[1].update, params, state, params)} {jax.tree.structure(state)}"


def loss(run: Run) -> str:
    """The loss of a batch, by itself: the training step takes longer to trace."""
    training, shape = run.training, jax.ShapeDtypeStruct
    clips = jax.tree.map(lambda array: shape(array.shape, array.dtype), clips_of(np.zeros(8)))
    encoded = Encoded(shape((8, tiny.DIM), np.float32), shape((8, 2, tiny.DIM), np.float32))
    own = training.state.params.get(OWN_PARAMETERS, {})
    given = training.state.memory, own, encoded, clips, training.data.bank_info, shape((), np.float32)
    return text_of(training.method.loss, *given)


def update(run: Run) -> str:
    """The update of the memory, by itself."""
    features = jax.ShapeDtypeStruct((8, tiny.DIM), np.float32)
    return text_of(run.training.method.update, run.training.state.memory, features, np.zeros(8, np.int32))


def refresh(run: Run) -> str:
    """The refresh."""
    training, info = run.training, run.training.data.bank_info
    shape = len(info.valid), run.options.prototypes.parts
    features = jax.ShapeDtypeStruct((*shape, tiny.DIM), np.float32)
    return text_of(training.steps.refresh, training.state, features, jax.ShapeDtypeStruct(shape, bool), info)


def tables(run: Run) -> list[np.ndarray]:
    """The memory after a refresh of the made-up tracklets, half way through training."""
    training, info = run.training, run.training.data.bank_info
    state = training.state._replace(step=np.int32(run.last_step // 2))
    return jax.tree.leaves(training.steps.refresh(state, *tiny.bank_parts(len(info.valid)), info).memory)


def batches(run: Run) -> Iterator:
    """The batches of the second epoch, of made-up positives."""
    return iter(train.epoch_batches(run, tiny.with_positives(run), run.options.train.steps_per_epoch))


def plan(run: Run) -> list[np.ndarray]:
    """The tracklets of a whole epoch."""
    return [batch.tracklet for batch in batches(run)]


def pixels(run: Run) -> np.ndarray:
    """The pixels of a batch."""
    return next(batches(run)).frames


def parts(run: Run) -> list[np.ndarray]:
    """Clips of a refresh: pixels, tracklets and sub-tracklets of its first batch."""
    batch = next(iter(train.part_batches(run)))
    return [batch.frames, batch.tracklet, batch.part]


def scored(run: Run) -> list[tuple[int, ...]]:
    """Shapes of the batches that an evaluation embeds."""
    shapes = []

    def embed(variables, frames, mask, layout):
        shapes.append(frames.shape)
        return np.asarray(frames).reshape(len(frames), -1)[:, :3].astype(np.float32) + 1.0

    run.embed = embed
    run.evaluate({}, 0)
    return shapes


def variables(run: Run) -> list[np.ndarray]:
    """Parameters and statistics that training starts from."""
    return jax.tree.leaves(run.initial_variables)


def tracklets(run: Run) -> list:
    """The tracklets of every split."""
    return [getattr(run.dataset, split) for split in SPLITS]


def notes(run: Run) -> list:
    """What the start-up report says besides the counts."""
    return run.dataset.counts["notes"]


def protocol(run: Run) -> list:
    """How the tracklets are scored."""
    found = run.protocol
    rows = [found.rows(run.dataset, side).tolist() for sides in found.directions.values() for side in sides]
    return [rows, found.name, list(found.directions), found.setting]


def packed_pixels(run: Run) -> np.ndarray:
    """Pixels of a batch that is read from the packed cache, which is made first."""
    pack.main(run)
    return pixels(run)


def outcome(look: Callable[[Run], Any], run: Run) -> Any:
    """What is seen, or the error that it ends in."""
    try:
        return look(run)
    except (ValueError, OSError) as error:
        return str(error)


def tracklets_or_error(run: Run) -> Any:
    """As `tracklets`."""
    return outcome(tracklets, run)


def without_frames(run: Run) -> Any:
    """What it does to a batch that no frame can be read: an error, or a mask."""
    run.reader.root = "nowhere"
    return outcome(lambda run: [batch.mask for batch in batches(run)], run)


def packed_without_frames(run: Run) -> Any:
    """What it does to the packed cache that no frame can be read."""
    run.opened = run.opened._replace(dataset=replace(run.dataset, root="nowhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "stamps", lambda dataset, **options: dict.fromkeys(packed._paths(dataset), (1, 1)))
        return outcome(lambda run: pack.main(run), run)


def campus_of_another_size(run: Run) -> Any:
    """A copy of BUPTCampus of the published size with other people."""
    lists = {"train": {"tracklets": 20, "ids": 1}, "query": {"tracklets": 0}, "gallery": {"tracklets": 0}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buptcampus, "PUBLISHED", lists)
        return outcome(tracklets, run)


def drawn_world(run: Run) -> Any:
    """The tracklets of a synthetic world that is there already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "ensure", lambda root, *_, **__: root)
        return outcome(tracklets, run)


def own_parameters(run: Run) -> list[np.ndarray]:
    """The parameters of the method's own."""
    return jax.tree.leaves(run.training.state.params[OWN_PARAMETERS])


class Drawn(Exception):
    """The world that would be drawn."""


def world(run: Run) -> str:
    """The synthetic world that would be drawn, and where."""

    def ensure(root, described, **options):
        raise Drawn(f"{root} {described}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "ensure", ensure)
        with pytest.raises(Drawn) as drawn:
            _ = run.dataset
    return str(drawn.value)


def kind(run: Run) -> str:
    """The method that is trained."""
    return type(run.training.method).__name__


# --------------------------------------------------------------------------------------------------- the walk


class Change(NamedTuple):
    """Another value of a field, what to look at, and fields without which the change would have no effect."""

    value: Any
    look: Callable[[Run], Any]
    given: dict[str, Any] = {}


def of_method(name: str, **given: Any) -> dict[str, Any]:
    """Fields under which a method of clusters finds several in the made-up tracklets."""
    few = {"clusters.k1": 6, "clusters.k2": 2, "clusters.min_samples": 2, "cap.k1": 6}
    return {"method.name": name, **few, **given}


def at(root: str, name: str, **given: Any) -> dict[str, Any]:
    """Fields of a data set that `roots` writes."""
    return {"data.name": name, "data.root": f"<{root}>", "data.min_frames": 1, **given}


STAGE = {
    "enabled": False,
    "rule": "relative",
    "rho": (0.9, 0.5),
    "kappa": (0.2, -0.1),
    "schedule": "cosine",
    "fixed": 0.3,
    "ema": 0.25,
    "reciprocity": 9,
    "positives": 4,
    "weighting": "margin",
    "temperature": 0.3,
    "use_reliability": True,
    "ambiguous": 3,
    "band": 0.2,
    "neighbours": 30,
    "block": 8,
}


def of_stage(stage: str) -> dict[str, list[Change]]:
    """The fields that both stages have."""
    alone = {f"{'across' if stage == 'within' else 'within'}.enabled": False}  # quicker to trace
    given = {"fixed": alone | {f"{stage}.rule": "fixed"}, "enabled": {}}
    return {f"{stage}.{name}": [Change(value, refresh, given.get(name, alone))] for name, value in STAGE.items()}


# neither stage: what is left of a refresh is the look-alikes of the own view
ALIKE = {"within.enabled": False, "across.enabled": False, "loss.same_view_rule": "stage1"}
IVF, SUPERVISED = {"alignment.search": "ivf"}, {"method.name": "supervised"}
VCM, CACHE = at("hitsz_vcm", "hitsz_vcm"), {"data.packed": "<cache>", "data.jobs": 1}
CAMERA = {"video": "<mot>/video.avi", "boxes": "<mot>/boxes.txt", "modality": 0, "camid": 3}
MOT = at("mot", "mot") | {"data.cameras": {"one": CAMERA}}
CAP, SDCL = of_method("cap"), of_method("sdcl")
ADCA = of_method("adca", **{"adca.begin": 0.2, "adca.similarity": 0.3})
CLUSTERS = of_method("cluster_contrast")
CAMPUS = at("buptcampus", "buptcampus", **{"data.protocol": "full", "data.check_counts": False})
WALK: dict[str, list[Change]] = {
    "seed": [Change(1, plan), Change(1, pixels), Change(1, variables), Change(1, own_parameters, SUPERVISED)],
    "method.name": [Change("pgm", kind)],
    # data
    "data.name": [Change("mars", tracklets_or_error)],
    "data.protocol": [Change("full_no_camera", protocol, CAMPUS)],
    "data.image_size": [Change((8, 16), look) for look in (pixels, parts, scored, protocol)]
    + [
        Change((16, 16), variables, {"encoder.backbone": "patches"}),
        Change((8, 16), world, {"data.name": "synthetic"}),
        Change((8, 16), packed_pixels, CACHE),
    ],
    "data.min_frames": [
        Change(6, tracklets),
        Change(12, tracklets, VCM | {"data.min_frames": 11, "data.hitsz_vcm.repair": True}),
        Change(25, drawn_world, VCM | {"data.name": "synthetic"}),
        Change(15, tracklets, MOT),
        # one of 24 frames is missing
        Change(24, tracklets, at("incomplete", "hitsz_vcm") | {"data.min_frames": 23, "data.allow_missing": True}),
    ],
    "data.check_counts": [Change(False, notes, VCM), Change(True, campus_of_another_size, CAMPUS)],
    "data.allow_missing": [
        Change(True, tracklets_or_error, at("incomplete", "hitsz_vcm")),
        Change(True, without_frames),
        Change(True, packed_without_frames, CACHE),
    ],
    "data.cameras": [Change({"one": {**CAMERA, "modality": 1}}, tracklets, MOT)],
    "data.packed_quality": [Change(50, packed_pixels, CACHE)],
    "data.seed": [Change(1, world, {"data.name": "synthetic"})],
    "data.hitsz_vcm.repair": [Change(True, tracklets, VCM), Change(True, protocol, VCM)],
    "data.buptcampus.auxiliary": [Change(True, tracklets, CAMPUS)],
    "data.synthetic.preset": [Change("medium", world, {"data.name": "synthetic"})],
    "data.synthetic.camera_seed": [Change(1, world, {"data.name": "synthetic"})],
    "data.folder.csv": [Change("fewer.csv", tracklets)],
    "data.regdb.trial": [Change(2, look, at("regdb", "regdb")) for look in (tracklets, protocol)],
    "data.mars.gallery": [Change("without_queries", look, at("mars", "mars")) for look in (tracklets, protocol)],
    "data.sysu_mm01.trial": [Change(2, protocol, at("sysu", "sysu_mm01"))],
    "data.sysu_mm01.gallery": [Change("indoor", protocol, at("sysu", "sysu_mm01"))],
    "data.sysu_mm01.shots": [Change("multi", protocol, at("sysu", "sysu_mm01"))],
    "data.llcm.trial": [Change(3, protocol, at("llcm", "llcm"))],
    "data.llcm.query": [Change("rgb", protocol, at("llcm", "llcm"))],
    # encoder
    "encoder.backbone": [Change("block", variables), Change("block", step)],
    "encoder.aggregator": [Change("gem", step)],
    "encoder.order": [Change("motion", step), Change("relative", step, {"encoder.aggregator": "attention"})],
    "encoder.dtype": [Change("bfloat16", step)],
    "encoder.as_product": [Change(True, step)],
    "encoder.remat": [Change(True, step, {"encoder.backbone": "block"})],
    # a plain ViT has no BatchNorm but the neck's
    "encoder.norm_group": [Change(4, step), Change(4, step, {"encoder.backbone": "patches"})],
    "init.run": [Change("<trained>", variables)],
    "init.weights": [
        Change(
            "hitpro_jax/models/weights/resnet_small.safetensors",
            variables,
            {"encoder.backbone": "resnet_small", "data.image_size": (64, 32)},
        )
    ],
    # batches
    "batch.tracklets_per_modality": [Change(3, plan)],
    "batch.clips_per_tracklet": [Change(3, plan)],
    "batch.clip_length": [Change(3, pixels)],
    "batch.partner_share": [Change(0.0, plan)],
    # every view of the made-up tracklets has as many as the others
    "batch.view_power": [Change(1.0, plan, {"data.folder.csv": "fewer.csv"})],
    "augment.flip": [Change(1.0, pixels)],
    "augment.pad": [Change(0.2, pixels)],
    "augment.erase": [Change(1.0, pixels)],
    "augment.colour": [Change(1.0, pixels)],
    # prototypes and mining
    "prototypes.parts": [Change(3, parts), Change(3, refresh)],
    "prototypes.clip_length": [Change(3, parts)],
    "prototypes.batch_size": [Change(6, parts)],
    "prototypes.mode": [Change("consistency", refresh)],
    "prototypes.temperature": [Change(0.2, refresh, {"prototypes.mode": "consistency"})],
    "prototypes.momentum": [Change(0.5, update)],
    **of_stage("within"),
    **of_stage("across"),
    "within.rule": [
        Change("relative", refresh, {"across.enabled": False}),
        Change("relative", refresh, ALIKE),
    ],
    "within.rho": [
        Change((0.9, 0.5), refresh, {"across.enabled": False}),
        Change((0.9, 0.5), refresh, ALIKE),
    ],
    "within.fixed": [
        Change(0.3, refresh, {"across.enabled": False, "within.rule": "fixed"}),
        Change(0.3, refresh, ALIKE | {"within.rule": "fixed"}),
    ],
    "within.block": [
        Change(8, refresh, {"across.enabled": False}),
        Change(8, refresh, ALIKE),
    ],
    "within.camera_bias": [Change("zscore", refresh, {"across.enabled": False})],
    "within.balance": [Change(3, refresh, {"across.enabled": False})],
    "within.per_camera": [Change(1, refresh, {"across.enabled": False})],
    "across.debias": [Change("none", refresh)],
    "across.cycle": [Change(False, refresh)],
    "across.ban_same_camera": [Change(True, refresh), Change(True, loss)]
    + [Change(True, tables, given) for given in (ADCA, of_method("pgm", **{"pgm.begin": 0.2}), SDCL, SUPERVISED)]
    + [Change(True, loss, SDCL)],
    "alignment.centre": [Change(False, refresh)],
    "alignment.search": [
        Change("ivf", refresh, ALIKE),
        Change("ivf", refresh),
    ],
    "alignment.cells": [Change(7, refresh, IVF)],
    "alignment.probes": [Change(2, refresh, IVF)],
    # loss
    "loss.temperature": [Change(0.2, loss)],
    "loss.intra": [Change(0.7, loss), Change(0.7, step)],
    "loss.intra_end": [Change(0.3, loss)],
    "loss.within": [Change(0.8, loss)],
    "loss.across": [Change(0.9, loss)],
    "loss.within_begin": [Change(0.15, loss)],
    "loss.across_begin": [Change(0.3, loss)],
    "loss.ramp": [Change(0.4, loss)],
    "loss.frame": [Change(0.3, loss)],
    "loss.alpha": [Change(0.2, loss)],
    "loss.hard_negatives": [Change(7, loss)],
    "loss.ambiguity": [Change("mask", loss)],
    "loss.same_view": [Change(3, refresh), Change(3, loss)],
    "loss.same_view_rule": [Change("stage1", refresh)],
    # optimiser and length
    "optim.name": [Change("sgd", optimiser), Change("adamw", optimiser)],
    "optim.learning_rate": [Change(0.01, optimiser), Change(0.01, step)],
    "optim.backbone_rate": [Change(0.5, optimiser), Change(0.0, optimiser)],
    "optim.weight_decay": [Change(0.01, optimiser), Change(0.01, optimiser, {"optim.name": "adamw"})],
    "optim.schedule": [Change("cosine", optimiser), Change("constant", optimiser)],
    "optim.adapt_steps": [Change(2, optimiser)],
    "optim.warmup_steps": [Change(3, optimiser)],
    "optim.clip_norm": [Change(1.0, optimiser)],
    "train.epochs": [Change(4, step), Change(4, optimiser), Change(4, loop.events)],
    "train.steps_per_epoch": [Change(3, step), Change(3, optimiser), Change(3, plan), Change(3, loop.events)],
    "train.eval_every": [Change(2, loop.events)],
    "eval.frames": [Change(3, scored), Change(3, protocol)],
    "eval.batch_size": [Change(3, scored)],
    # baselines
    "clusters.k1": [Change(12, tables, CLUSTERS)],
    "clusters.k2": [Change(1, tables, CLUSTERS)],
    "clusters.eps": [Change(0.2, tables, CLUSTERS)],
    "clusters.min_samples": [Change(5, tables, CLUSTERS)],
    "clusters.temperature": [Change(0.2, loss, CLUSTERS)],
    "clusters.momentum": [Change(0.4, update, CLUSTERS)],
    "clusters.positives": [Change(2, tables, CLUSTERS)],
    "adca.begin": [Change(0.9, tables, ADCA)],
    "adca.similarity": [Change(1.0, tables, ADCA)],
    "adca.aggregation": [Change(0.6, tables, ADCA)],
    "pgm.begin": [Change(0.9, tables, of_method("pgm"))],
    "pgm.momentum": [Change(0.6, update, of_method("pgm"))],
    "pgm.weight": [Change(0.6, loss, of_method("pgm"))],
    "cap.k1": [Change(12, tables, CAP)],
    "cap.eps": [Change(0.2, tables, CAP)],
    "cap.temperature": [Change(0.2, loss, CAP)],
    "cap.momentum": [Change(0.6, update, CAP)],
    "cap.begin": [Change(0.3, loss, CAP)],
    "cap.weight": [Change(0.3, loss, CAP)],
    "cap.hard_negatives": [Change(7, loss, CAP)],
    "sdcl.share": [Change(0.5, loss, SDCL), Change(0.5, tables, SDCL)],
    "sdcl.within": [Change(0.3, loss, SDCL)],
    "sdcl.across": [Change(0.3, loss, SDCL)],
    "sdcl.begin": [Change(0.4, loss, SDCL)],
    "sdcl.instance_momentum": [Change(0.3, update, SDCL)],
    "supervised.margin": [Change(0.5, loss, SUPERVISED)],
    "supervised.temperature": [Change(0.2, loss, SUPERVISED)],
    "supervised.triplet": [Change(0.4, loss, SUPERVISED)],
}
CASES = [pytest.param(name, change, id=f"{name} {change.look.__name__}") for name in WALK for change in WALK[name]]


# ---------------------------------------------------------------------------------------------------- the tests


def write_vcm(root: Path) -> str:
    """HITSZ-VCM's layout with two training rows that run over a border, and all their frames."""
    lists = FILES | {"track_train_info.txt": OVER}
    write(root, {f"info/{name}": "".join(f"{line}\n" for line in lines) for name, lines in lists.items()})
    found = hitsz_vcm.load(str(root), min_frames=1)
    frames = [frame for split in SPLITS for record in getattr(found, split) for frame in record.frames]
    return write(root, dict.fromkeys(frames, "image"))


def write_video(root: Path) -> str:
    """A video of 40 frames with one track through all of them."""
    root.mkdir()
    writer = cv2.VideoWriter(str(root / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for frame in range(40):
        writer.write(np.full((24, 32, 3), 5 * frame, np.uint8))
    writer.release()
    boxes = [f"{frame},{track},2,3,8,9" for track, last in ((1, 40), (2, 10)) for frame in range(1, last + 1)]
    return write(root, {"boxes.txt": "\n".join(boxes)})


@pytest.fixture(scope="module")
def roots(tmp_path_factory, twins) -> dict[str, str]:
    """Folders of the data sets, by the words that stand for them in `WALK`."""
    made = tmp_path_factory.mktemp("roots")
    incomplete = Path(write_vcm(made / "incomplete"))
    noise = tiny.write_folder(made / "noise")
    (incomplete / hitsz_vcm.load(str(incomplete), min_frames=1).train[0].frames[3]).unlink()
    return {
        "noise": noise,
        "trained": trained(made / "trained", noise),
        "hitsz_vcm": write_vcm(made / "hitsz_vcm"),
        "incomplete": str(incomplete),
        "buptcampus": str(twins / "BUPTCampus"),
        "regdb": write(made / "regdb", REGDB | {"idx/train_visible_2.txt": "Visible/1/train0.bmp 1\n"}),
        "sysu": write(made / "sysu", SYSU),
        "llcm": write(made / "llcm", LLCM),
        "mars": write_mars(made / "mars"),
        "mot": write_video(made / "mot"),
    }


@pytest.fixture(scope="module", autouse=True)
def tiny_backbones():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "BANK_MULTIPLE", 32)  # rows: quicker to compile
        patch.setitem(BACKBONES, "tiny", tiny.backbone())
        patch.setitem(BACKBONES, "block", tiny.backbone((1,)))
        patch.setitem(BACKBONES, "patches", BackboneSpec(partial(vit.ViT, tiny.DIM, 1, 2, 4), tiny.DIM))
        yield


def trained(workdir: Path, root: str) -> str:
    """The workdir of a run that has saved the encoder of another seed."""
    with tiny.opened(workdir, {"data.root": root, "seed": 1}) as run, run.checkpoints() as checkpoints:
        resume.save(run, checkpoints, 0, run.training.state)
    return str(workdir)


def placed(value: Any, folders: dict[str, str]) -> Any:
    """A value with folders in place of the words that stand for them."""
    if isinstance(value, dict):
        return {key: placed(inner, folders) for key, inner in value.items()}
    if isinstance(value, str):
        return re.sub("<(.*?)>", lambda word: folders[word[1]], value)
    return value


def plain(seen: Any) -> Any:
    """What was seen as something that can be compared."""
    if isinstance(seen, list | tuple):
        return [plain(each) for each in seen]
    if isinstance(seen, np.ndarray | jax.Array):
        return seen.dtype, seen.shape, np.asarray(seen).tobytes()
    return str(seen)


@pytest.fixture(scope="module")
def seen(roots, tmp_path_factory) -> Callable:
    """A function of a look and the fields of a run, which remembers what it saw."""
    known = {}

    def look_at(look: Callable, given: dict[str, Any], *, anew: bool = False) -> Any:
        key = look, str(given)
        if key not in known or anew:
            workdir = tmp_path_factory.mktemp("run")
            folders = {**roots, "cache": str(workdir / "cache")}
            with tiny.opened(workdir, placed({"data.root": "<noise>", **given}, folders)) as run:
                found = plain(look(run))
            if anew:
                return found
            known[key] = found
        return known[key]

    return look_at


@pytest.mark.parametrize(("name", "change"), CASES)
def test_another_value_is_seen_at_the_far_end(seen, name, change):
    changed = {**change.given, name: change.value}
    before = fields(tiny.config_of(change.given))
    assert name == "data.cameras" or before[name] != change.value
    assert seen(change.look, changed) != seen(change.look, change.given)


LOOKS = {change.look: change.given for changes in WALK.values() for change in changes}


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.__name__)
def test_the_same_value_is_seen_as_the_same(seen, look):
    """Otherwise the walk would find a change in everything."""
    assert seen(look, LOOKS[look], anew=True) == seen(look, LOOKS[look])


def test_every_field_is_in_the_walk_or_changes_no_number():
    known = set(fields(load("base"))) | {"data.cameras"}
    assert known == WALK.keys() | NO_NUMBER.keys()
    assert not WALK.keys() & NO_NUMBER.keys()


def test_what_may_differ_from_the_checkpoint_changes_no_number():
    assert set(FREE_FIELDS) == NO_NUMBER.keys()


@pytest.mark.parametrize(("name", "value"), [("train.log_every", 2), ("train.save_every", 2), ("train.save_steps", 1)])
def test_fields_of_the_log_and_of_saves_are_seen_in_the_loop(seen, name, value):
    given = {"train.log_every": 1}
    assert seen(loop.events, {**given, name: value}) != seen(loop.events, given)
