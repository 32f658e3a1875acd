"""Is the synthetic world worth training on? Scores of simple descriptors, of the frozen and the supervised encoder.

  python -m experiments.calibrate --seeds=0,1,2 --out=experiments/results/synthetic/calibration.json

For each seed of the people, mean of both directions' mAP on unseen identities: pixels (a 16 x 8 thumbnail), a colour
histogram, the encoder with random weights, the frozen pretrained encoder (with the precision of both stages at the
first refresh), and the same encoder fine-tuned with labels, the reference.
"""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import jax
import numpy as np
from absl import app, flags

from configs import synthetic
from experiments import supervised
from experiments.records import averaged
from hitpro_jax import evaluate, train
from hitpro_jax.encode import Embed
from hitpro_jax.models.encoder import init_variables
from hitpro_jax.models.pretrained.weights import load_into
from hitpro_jax.options import BatchOptions
from hitpro_jax.run import Run, open_run
from hitpro_jax.sharding import fetch
from hitpro_jax.workdir import Workdir
from hitpro_jax.workdir.environment import git_commit

SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds of the people")
OUT = flags.DEFINE_string("out", "experiments/results/synthetic/calibration.json", "where the figures go")
WORKDIR = flags.DEFINE_string("workdir", "runs/calibration", "where the log goes")
WEIGHTS = flags.DEFINE_string("weights", None, "other pretrained weights than the config's")
SUPERVISED_EPOCHS = flags.DEFINE_integer("supervised_epochs", 14, "epochs of 90 steps with labels; 0: skip")


def open_world(seed: int, workdir: Workdir) -> Run:
    """A run on the world of these people."""
    config = synthetic.get_config()
    config.data.seed = seed
    if WEIGHTS.value:
        config.init.weights = WEIGHTS.value
    return open_run(config, workdir)


def calibrate(run: Run) -> dict[str, float]:
    """All figures of one world."""
    options = run.options
    untrained = init_variables(run.encoder, options.data.image_size, options.seed)
    frozen = load_into(untrained, options.init.weights)
    visible = supervised.visible_scores(run.embedder, frozen, run.dataset.gallery)["mAP"]
    figures = {
        "pixels": mean_map(run, _thumbnail, {}),
        "histogram": mean_map(run, _histogram, {}),
        "random": mean_map(run, run.embed, untrained),
        "frozen, visible to visible": round(visible, 2),
        "frozen": mean_map(run, run.embed, frozen),
    }
    figures |= first_refresh(run)
    if SUPERVISED_EPOCHS.value:
        recipe = supervised.Recipe(
            epochs=SUPERVISED_EPOCHS.value,
            steps=90,
            batch=BatchOptions(tracklets_per_modality=16, clips_per_tracklet=1, clip_length=2),
            learning_rate=1e-3,
            triplet=0.0,
            augment=options.augment,
        )
        data = supervised.labelled(run.reader, run.dataset.train, options.seed)
        tuned = supervised.fit(run.encoder, frozen, data, recipe, seed=options.seed)
        figures["supervised"] = mean_map(run, run.embed, tuned)
    return figures


def mean_map(run: Run, embed: Embed, variables: dict) -> float:
    """Mean mAP of the directions between the modalities, in percent."""
    embedder = replace(run.embedder, embed=embed)
    scores = evaluate.evaluate(embedder, variables, run.dataset, run.protocol, step=0).scores
    return round(float(np.mean([scores[key]["mAP"] for key in averaged(scores)])), 2)


def first_refresh(run: Run) -> dict[str, float]:
    """Precision of the positives that the frozen encoder gives."""
    training = run.training
    state = train.refresh(run, jax.device_put(training.state, training.shardings), 0)
    figures = training.describe(fetch(training.method.mined(state.memory)), None)
    keys = {"within": "align/within/precision", "across": "align/cross/precision"}
    return {f"{stage} precision": round(figures[key], 3) for stage, key in keys.items()}


def _thumbnail(_, frames, mask, layout) -> np.ndarray:
    small = [[cv2.resize(f, (8, 16), interpolation=cv2.INTER_AREA) for f in clip] for clip in np.asarray(frames)]
    mean = np.mean(np.array(small, np.float32), axis=1).reshape(len(small), -1)
    return mean - mean.mean(1, keepdims=True)


def _histogram(_, frames, mask, layout) -> np.ndarray:
    bins = np.asarray(frames) // 32
    counts = [[np.bincount(clip[..., c].ravel(), minlength=8) for c in range(3)] for clip in bins]
    return np.sqrt(np.array(counts, np.float32).reshape(len(counts), -1))


def main(_) -> None:
    table = {"commit": git_commit()}
    with Workdir(WORKDIR.value) as workdir:
        for seed in SEEDS.value:
            table[f"seed {seed}"] = calibrate(open_world(int(seed), workdir))
            workdir.log(f"seed {seed}: {table[f'seed {seed}']}")
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    Path(OUT.value).write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
