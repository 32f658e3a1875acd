"""Evaluation: embed query and gallery, score every direction of the protocol, tell and write the result."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from hitpro_jax.checkpoint import Checkpointer, abstract, config_differences
from hitpro_jax.data import packed, pipeline, records, sampling
from hitpro_jax.data.opening import open_dataset
from hitpro_jax.data.protocols import Protocol
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.data.sets import folder, hitsz_vcm
from hitpro_jax.distributed import first_process_first
from hitpro_jax.encode import CountingUnreadable, Embed, embed_all, make_embed
from hitpro_jax.models.encoder import init_variables, make_encoder
from hitpro_jax.scoring.scores import score
from hitpro_jax.sharding import gather_rows, make_mesh, pad_rows, replicated
from hitpro_jax.types import TrainState
from hitpro_jax.workdir.writer import Writer

__all__ = ["evaluate", "evaluate_checkpoint", "headline", "log", "open_data", "result_of", "score"]
HEADLINE = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")


def checked_data(config: ConfigDict, say: Callable[[str], None]) -> tuple[Dataset, Protocol]:
    """Loads the data set, checks that its files are there, and tells what was found.

    The protocol is the one in force, with the config's frames and size; where they are not its own, that is told.
    """
    with first_process_first():  # what it draws or crops is there for the others
        dataset, protocol = open_dataset(config.data.to_dict())
    dataset = records.verify_files(
        dataset, min_frames=config.data.min_frames, allow_missing=config.data.allow_missing, progress=_checking
    )
    for line in records.report(dataset):
        say(line)
    for split in records.SPLITS if protocol.directions else ("train",):
        if not getattr(dataset, split):
            raise ValueError(
                f"no tracklet is left in the {split} set of {dataset.root}: check its files, "
                "data.min_frames and data.allow_missing"
            )
    if dataset.name == folder.NAME:  # one's own lists need not be made for every pairing
        told = {key: protocol.matches(dataset, pair) for key, pair in protocol.directions.items()}
        for key in (key for key, there in told.items() if not there):
            say(f"note: {key} is not scored: no query has its person in the gallery, in another camera")
        protocol = replace(protocol, directions={key: protocol.directions[key] for key in told if told[key]})
    for key, pair in protocol.directions.items():
        if not all(len(protocol.rows(dataset, selection)) for selection in pair):
            raise ValueError(
                f"protocol {protocol.name} finds no query or no gallery row for {key} in {dataset.root}: "
                "complete its lists, or choose another data.protocol"
            )
    frames, size = config.eval.frames, tuple(config.data.image_size)
    if note := protocol.departure(frames, size):
        say(note)
    return dataset, replace(protocol, frames=frames, image_size=size, rows_changed=_rows_changed(config, dataset))


def _rows_changed(config: ConfigDict, dataset: Dataset) -> str:
    """What makes the rows to be scored other than the published ones."""
    data, gone = config.data, dataset.counts.get("missing", {})
    changes = []
    if data.name == "hitsz_vcm":
        changes += [f"least {data.min_frames} frames"] if data.min_frames != hitsz_vcm.MIN_FRAMES else []
        changes += ["rows repaired"] if data.repair else []
    lost = sum(gone.get(split, 0) for split in ("query", "gallery"))
    return ", ".join(changes + ([f"{lost} frames missing"] if lost else []))


def open_data(config: ConfigDict, say: Callable[[str], None]) -> tuple[Dataset, Protocol, pipeline.FrameReader]:
    """As `checked_data`, with the reader of its frames."""
    data, (dataset, protocol) = config.data, checked_data(config, say)
    if not protocol.directions:
        say("note: the data set has no labelled query and gallery, so nothing is scored; going on without")
    if data.packed_quality and not data.packed:
        raise ValueError("data.packed_quality is set but data.packed is not: name the folder of the packed cache")
    frames = (
        packed.open_frames(data.packed, dataset, tuple(data.image_size), data.packed_quality, _checking)
        if data.packed
        else None
    )
    return (
        dataset,
        protocol,
        pipeline.FrameReader(
            dataset.root, tuple(data.image_size), cache=data.cache, allow_missing=data.allow_missing, packed=frames
        ),
    )


def _checking(folders: Iterable, total: int) -> Iterable:
    return tqdm(folders, total=total, desc="checking files", mininterval=2.0, leave=False)


def evaluate(
    embed: Embed,
    variables: dict,
    dataset: Dataset,
    protocol: Protocol,
    reader: pipeline.FrameReader,
    options: ConfigDict,
    mesh: Mesh,
    num_workers: int = 0,
) -> tuple[Protocol, dict[str, dict]]:
    """Scores of every direction of the protocol, as `score` gives them, by the direction's key; none, no scores.

    The protocol before them is the given one, with the frames that could not be read as a change of its rows.
    """
    splits, unreadable = {}, 0
    for split in ("query", "gallery") if protocol.directions else ():
        *splits[split], lost = embed_split(
            embed, variables, getattr(dataset, split), reader, options, mesh, protocol.choose_frames, num_workers
        )
        unreadable += lost
    scores = {}
    for key, pair in protocol.directions.items():
        (q, q_pid, q_cam), (g, g_pid, g_cam) = (
            [column[protocol.rows(dataset, chosen)] for column in splits[chosen.split]] for chosen in pair
        )
        scores[key] = score(q, g, q_pid, g_pid, q_cam, g_cam, camera_rule=protocol.camera_rule)
    changes = [protocol.rows_changed] * bool(protocol.rows_changed)
    changes += [f"{unreadable} frames unreadable"] * bool(unreadable)
    return replace(protocol, rows_changed=", ".join(changes)), scores


def evaluate_aloud(
    writer: Writer,
    embed: Embed,
    variables: dict,
    dataset: Dataset,
    protocol: Protocol,
    reader: pipeline.FrameReader,
    config: ConfigDict,
    mesh: Mesh,
) -> tuple[Protocol, dict[str, dict]]:
    """`evaluate`, while whoever waits is told how far it is."""
    with writer.waiting("embedding query and gallery") as wait:
        counted = wait.counting(embed, len(dataset.query) + len(dataset.gallery))
        return evaluate(counted, variables, dataset, protocol, reader, config.eval, mesh, config.data.num_workers)


def embed_split(
    embed: Embed,
    variables: dict,
    tracklets: tuple[Record, ...],
    reader: pipeline.FrameReader,
    options: ConfigDict,
    mesh: Mesh,
    choose_frames: Callable[[int, int], np.ndarray] = sampling.test_frames,
    num_workers: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Features [N, D], person ids [N] and camera ids [N] of a split, and how many frames could not be read.

    Raises:
      ValueError: a tracklet has no frame that could be read: it has no feature, and must not be ranked.
    """
    batches = CountingUnreadable(
        pipeline.test_clips(
            reader,
            tracklets,
            clip_length=options.frames,
            batch_size=pad_rows(options.batch_size, mesh),
            frames=choose_frames,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_workers=num_workers,
        )
    )
    features, seen = embed_all(embed, variables, batches, len(tracklets), 1, mesh)
    if jax.process_count() > 1:
        features, seen = (gather_rows(each)[: len(tracklets)] for each in (features, seen))
    if not seen.all():
        first = tracklets[int(np.argmin(seen))].frames[0]
        raise ValueError(
            f"{(~seen).sum()} of {len(seen)} query or gallery tracklets have no frame that can be read, "
            f"the first begins with {reader.root}/{first}: restore its files, or remove it from its list"
        )
    return (
        features[:, 0],
        np.array([t.pid for t in tracklets]),
        np.array([t.camid for t in tracklets]),
        batches.total(),
    )


def headline(scores: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Only the figures in percent of every direction."""
    return {key: {name: float(values[name]) for name in HEADLINE} for key, values in scores.items()}


def result_of(protocol: Protocol, step: int, scores: dict[str, dict]) -> dict:
    """What result.json holds: {"protocol", "setting" (if anything was scored), "step", direction: figures in %, ..}."""
    setting = {"setting": protocol.setting} if scores else {}
    return {"protocol": protocol.name, **setting, "step": step, **headline(scores)}


def log(writer: Writer, step: int, protocol: Protocol, scores: dict[str, dict]) -> None:
    """One line of metrics.jsonl and one on the terminal; nothing where nothing was scored."""
    if not scores:
        return
    figures = headline(scores)
    writer.metrics(
        step, {f"eval/{key}/{name}": value for key, values in figures.items() for name, value in values.items()}
    )
    text = "; ".join(
        f"{key} rank-1 {v['rank1']:.1f} mAP {v['mAP']:.1f} ({scores[key]['valid'].sum()} queries)"
        for key, v in figures.items()
    )
    writer.say(f"step {step}, {protocol.name} ({protocol.setting}): {text}")


def encoder_of(config: ConfigDict) -> dict:
    """What a checkpoint's weights belong to: the encoder's fields and the size of its input."""
    return {**config.encoder.to_dict(), "image_size": list(config.data.image_size)}


def evaluate_checkpoint(config: ConfigDict, writer: Writer) -> dict:
    """Scores the workdir's newest checkpoint and writes eval/<step>.json; returns what was written.

    Raises:
      ValueError: there is no checkpoint, or it belongs to another encoder, or the data set has no labelled test set.
    """
    mesh = make_mesh()
    dataset, protocol, reader = open_data(config, writer.say)
    if not protocol.directions:
        raise ValueError(f"{dataset.root} has no labelled query and gallery to score: add them, or use --mode=train")
    encoder = make_encoder(**config.encoder)
    variables = init_variables(encoder, tuple(config.data.image_size), config.seed)
    wanted = TrainState(step=np.int32(0), opt_state=None, memory=None, **variables)
    with Checkpointer(writer.path / "checkpoints", read_only=True, say=writer.say) as checkpointer:
        restored = checkpointer.restore_latest(abstract(wanted, replicated(mesh)), partial=True)
    if restored is None:
        raise ValueError(f"no checkpoint in {writer.path}: give the --workdir of a run, or train one first")
    state, meta, step = restored
    if differing := config_differences(meta["encoder"], encoder_of(config)):
        raise ValueError(
            f"the checkpoint at step {step} belongs to another encoder ({'; '.join(differing)}): "
            "give the config it was trained with"
        )
    protocol, scores = evaluate_aloud(
        writer, make_embed(encoder, mesh), state.variables, dataset, protocol, reader, config, mesh
    )
    result = result_of(protocol, step, scores)
    if jax.process_index() == 0:
        (writer.path / "eval").mkdir(exist_ok=True)
        (writer.path / "eval" / f"{step}.json").write_text(json.dumps(result, indent=2) + "\n")
    writer.table(result)
    return result
