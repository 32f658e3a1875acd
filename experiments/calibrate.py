"""Is the synthetic world worth training on? Scores of simple descriptors, of the frozen and the supervised encoder.

  python -m experiments.calibrate --seeds=0,1,2 --out=experiments/results/synthetic/calibration.json

For each seed of the people, mean of both directions' mAP on unseen identities: pixels (a 16 x 8 thumbnail), a colour
histogram, the encoder with random weights, the frozen pretrained encoder (with the precision of stage 2 at the first
refresh), and the same encoder fine-tuned with labels, the reference.
"""

import json
from pathlib import Path

import cv2
import jax
import numpy as np
from absl import app, flags

from configs import synthetic
from experiments import supervised
from hitpro_jax import evaluate, train
from hitpro_jax.data.records import anonymise
from hitpro_jax.encode import make_embed
from hitpro_jax.models.encoder import init_variables, make_encoder
from hitpro_jax.models.pretrained.weights import load_into
from hitpro_jax.sharding import make_mesh
from hitpro_jax.workdir.writer import Writer

SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds of the people")
OUT = flags.DEFINE_string("out", "experiments/results/synthetic/calibration.json", "where the figures go")
WEIGHTS = flags.DEFINE_string("weights", None, "other pretrained weights than the config's")
SUPERVISED_EPOCHS = flags.DEFINE_integer("supervised_epochs", 14, "epochs of 90 steps with labels; 0: skip")


def calibrate(seed: int) -> dict[str, float]:
    config = synthetic.get_config()
    config.data.seed = seed
    if WEIGHTS.value:
        config.init.weights = WEIGHTS.value
    mesh = make_mesh()
    dataset, protocol, reader = evaluate.open_data(config, lambda line: None)
    encoder = make_encoder(**config.encoder)
    embed = make_embed(encoder, mesh)

    def scored(embed, variables):
        _, scores = evaluate.evaluate(embed, variables, dataset, protocol, reader, config.eval, mesh)
        return round(float(np.mean([s["mAP"] for s in scores.values()])), 2)

    untrained = init_variables(encoder, tuple(config.data.image_size), config.seed)
    frozen = load_into(untrained, config.init.weights)
    visible = supervised.visible_scores(embed, frozen, dataset.gallery, reader, config.eval, mesh)["mAP"]
    figures = {
        "pixels": scored(_thumbnail, {}),
        "histogram": scored(_histogram, {}),
        "random": scored(embed, untrained),
        "frozen, visible to visible": round(visible, 2),
        "frozen": scored(embed, frozen),
    }
    figures |= first_refresh(config, dataset, reader, mesh)
    if SUPERVISED_EPOCHS.value:
        tracklets, pids = anonymise(dataset.train, config.seed)
        labels = np.unique(pids, return_inverse=True)[1]
        tuned = supervised.fit(
            encoder,
            frozen,
            reader,
            tracklets,
            labels,
            epochs=SUPERVISED_EPOCHS.value,
            steps=90,
            tracklets_per_modality=16,
            clips_per_tracklet=1,
            clip_length=2,
            triplet=0.0,
            learning_rate=1e-3,
            seed=config.seed,
            augmentation=config.augment.to_dict(),
        )
        figures["supervised"] = scored(embed, tuned)
    return figures


def first_refresh(config, dataset, reader, mesh) -> dict[str, float]:
    """Precision of the positives that the frozen encoder gives."""
    caught = {}
    with Writer("runs/calibration") as writer:
        trainer, state, pids = train.prepare(config, dataset, reader, mesh, writer)

        def observe(memory, before):
            caught.update(train.Observer(trainer.data, pids)(memory, before))
            return caught

        train.refresh(trainer, jax.device_put(state, trainer.where), observe, 0)
    keys = {"within": "align/within/precision", "across": "align/cross/precision"}
    return {f"{stage} precision": round(caught[key], 3) for stage, key in keys.items()}


def _thumbnail(_, frames, mask, layout) -> np.ndarray:
    small = [[cv2.resize(f, (8, 16), interpolation=cv2.INTER_AREA) for f in clip] for clip in np.asarray(frames)]
    mean = np.mean(np.array(small, np.float32), axis=1).reshape(len(small), -1)
    return mean - mean.mean(1, keepdims=True)


def _histogram(_, frames, mask, layout) -> np.ndarray:
    bins = np.asarray(frames) // 32
    counts = [[np.bincount(clip[..., c].ravel(), minlength=8) for c in range(3)] for clip in bins]
    return np.sqrt(np.array(counts, np.float32).reshape(len(counts), -1))


def main(_) -> None:
    table = {}
    for seed in SEEDS.value:
        table[f"seed {seed}"] = calibrate(int(seed))
        print(f"seed {seed}: {table[f'seed {seed}']}", flush=True)
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    Path(OUT.value).write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
