"""The demo and test bed: HiTPro on the synthetic camera network, on a CPU, from the small pretrained encoder.

  python -m hitpro_jax.main --config=configs/synthetic.py
  python -m hitpro_jax.main --config=configs/synthetic.py --config.data.seed=1     # other people

Time: six minutes on 2 CPU cores with the making of the environment (`make demo`), four to five of them training.
Result: mean of both directions' mAP 48.8, 56.2 and 52.0 on data seeds 0, 1 and 2, where the frozen encoder has 27.6,
31.7 and 29.8 (with the defaults of base.py as they were then). How its values were found: docs/lab/synthetic.md.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    data = config.data
    data.name = "synthetic"
    data.jobs = 2  # processes that draw the pictures
    data.cache = True

    base.use_small_encoder(config)

    config.batch.tracklets_per_modality = 12
    config.batch.clip_length = 2
    config.prototypes.clip_length = 2
    for stage in (config.within, config.across):
        stage.neighbours = 32
        stage.positives = 5
        # of ~380 prototypes a modality, the hardest negatives are often positives
        stage.ambiguous, stage.band = 20, 0.3
    # few tracklets a person and view: a short reciprocal list is what keeps stage 1 clean
    config.within.reciprocity, config.within.per_camera = 2, 1
    config.within.rho, config.within.kappa = (0.85, 0.8), (-0.5, -1.0)
    config.across.reciprocity = 3
    config.across.rho, config.across.kappa = (0.95, 0.85), (0.5, -0.5)
    config.loss.within = config.loss.across = 1.0
    # the own prototype pulls in level 1 alone, and half as much: it also holds what is peculiar to a stay
    config.loss.intra, config.loss.alpha = 0.5, 0.0

    config.optim.learning_rate = 4e-4
    config.optim.warmup_steps = 30
    config.optim.schedule = "cosine"
    config.augment.colour = 0.8
    config.train.epochs = 12
    config.train.steps_per_epoch = 40
    config.train.eval_every = 3
    return config
