"""Evaluation: embed query and gallery once, then retrieve and score every direction of the protocol."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from hitpro_jax.data.protocols import Protocol
from hitpro_jax.data.records import Dataset
from hitpro_jax.features import Embedded, Embedder, embed_split
from hitpro_jax.scoring.ranks import Retrieved, retrieve
from hitpro_jax.scoring.result import Result
from hitpro_jax.scoring.scores import score, scores_of
from hitpro_jax.workdir import Workdir

__all__ = ["evaluate", "log", "retrieve_direction", "score", "score_splits"]


def evaluate(
    embedder: Embedder,
    variables: dict,
    dataset: Dataset,
    protocol: Protocol,
    *,
    step: int,
    titles: Mapping[str, str] | None = None,
    workdir: Workdir | None = None,
) -> Result:
    """Scores of an encoder.

    Args:
      embedder: of the same encoder as the variables.
      variables: parameters and statistics of the encoder.
      dataset: with the splits query and gallery.
      protocol: in force, with this run's frames and image size; without directions nothing is embedded or scored.
      step: optimiser steps of the encoder.
      titles: of directions, for people; None: their keys.
      workdir: logs meanwhile how far it is.
    """
    splits = {}
    with workdir.waiting("embedding query and gallery") if workdir else contextlib.nullcontext() as wait:
        if wait:
            embedder = embedder.counted(wait, len(dataset.query) + len(dataset.gallery))
        for split in ("query", "gallery") if protocol.directions else ():
            splits[split] = embed_split(embedder, variables, getattr(dataset, split), protocol.choose_frames)
        return score_splits(splits, dataset, protocol, step=step, titles=titles)


def score_splits(
    splits: Mapping[str, Embedded],
    dataset: Dataset,
    protocol: Protocol,
    *,
    step: int,
    titles: Mapping[str, str] | None = None,
) -> Result:
    """As `evaluate`, of splits that are embedded already: "query" and "gallery"."""
    scores = {key: scores_of(retrieve_direction(splits, dataset, protocol, key)) for key in protocol.directions}
    unreadable = sum(split.unreadable for split in splits.values())
    changes = [protocol.rows_changed] * bool(protocol.rows_changed)
    changes += [f"{unreadable} frames unreadable"] * bool(unreadable)
    protocol = replace(protocol, rows_changed=", ".join(changes))
    setting = protocol.setting if scores else ""
    return Result(protocol.name, setting, protocol.rows_changed, step, scores, titles or {})


def retrieve_direction(
    splits: Mapping[str, Embedded], dataset: Dataset, protocol: Protocol, key: str, *, top: int = 0
) -> Retrieved:
    """What the queries of a direction find in its gallery.

    Args:
      splits: "query" and "gallery", embedded.
      dataset: whose splits they are.
      protocol: with the direction.
      key: of the direction.
      top: rows wanted of each ranking; rows of the `Retrieved` count in the direction's gallery, which is
        `protocol.rows` of its split.
    """
    query, gallery = (splits[side.split].take(protocol.rows(dataset, side)) for side in protocol.directions[key])
    ids = query.pids, gallery.pids, query.camids, gallery.camids
    return retrieve(query.features, gallery.features, *ids, camera_rule=protocol.camera_rule, top=top)


def log(result: Result, workdir: Workdir) -> None:
    """One line of metrics.jsonl and one of the log; nothing where nothing was scored."""
    if result.scores:
        workdir.metrics(result.step, result.metrics())
        workdir.log(result.summary())
