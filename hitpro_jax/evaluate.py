"""Evaluation: embed query and gallery once, then retrieve and score every direction of the protocol."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hitpro_jax.data.protocols import Direction, Directions, Protocol
from hitpro_jax.data.records import Dataset
from hitpro_jax.features import Embedded, Embedder, embed_split
from hitpro_jax.scoring.ranks import Retrieved, retrieve
from hitpro_jax.scoring.result import Result, Scores
from hitpro_jax.scoring.scores import score
from hitpro_jax.workdir import Wait, Workdir

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
    with workdir.waiting("scoring", after=10.0) if workdir else contextlib.nullcontext() as wait:
        return score_splits(splits, dataset, protocol, step=step, titles=titles, wait=wait)


def score_splits(
    splits: Mapping[str, Embedded],
    dataset: Dataset,
    protocol: Protocol,
    *,
    step: int,
    titles: Mapping[str, str] | None = None,
    wait: Wait | None = None,
) -> Result:
    """As `evaluate`, of splits that are embedded already: "query" and "gallery".

    Args:
      splits: they.
      dataset: whose splits they are.
      protocol: in force.
      step: optimiser steps of the encoder.
      titles: of directions, for people; None: their keys.
      wait: gets how many queries are scored.
    """
    every = [*protocol.trials.values()] or [protocol.directions]
    total = sum(len(protocol.rows(dataset, query)) for directions in every for query, _ in directions.values())
    progress = wait.scoring(total) if wait else (lambda queries: None)

    def score_directions(directions: Directions) -> Scores:
        given = {key: _given(splits, dataset, protocol, direction) for key, direction in directions.items()}
        rule = protocol.camera_rule
        return {key: score(*arrays, camera_rule=rule, progress=progress) for key, arrays in given.items()}

    trials = {number: score_directions(directions) for number, directions in protocol.trials.items()}
    scores = next(iter(trials.values())) if trials else score_directions(protocol.directions)
    unreadable = sum(split.unreadable for split in splits.values())
    changes = [protocol.rows_changed] * bool(protocol.rows_changed)
    changes += [f"{unreadable} frames unreadable"] * bool(unreadable)
    changed = ", ".join(changes)
    setting = replace(protocol, rows_changed=changed).setting if scores else ""
    return Result(protocol.name, setting, changed, step, scores, titles or {}, trials)


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
    given = _given(splits, dataset, protocol, protocol.directions[key])
    return retrieve(*given, camera_rule=protocol.camera_rule, top=top)


def _given(
    splits: Mapping[str, Embedded], dataset: Dataset, protocol: Protocol, direction: Direction
) -> tuple[np.ndarray, ...]:
    """Features, person ids and camera ids of a direction, each of its queries and of its gallery."""
    query, gallery = (splits[side.split].take(protocol.rows(dataset, side)) for side in direction)
    return query.features, gallery.features, query.pids, gallery.pids, query.camids, gallery.camids


def log(result: Result, workdir: Workdir) -> None:
    """One line of metrics.jsonl and one of the log; nothing where nothing was scored."""
    if result.scores:
        workdir.metrics(result.step, result.metrics())
        workdir.log(result.summary())
