"""The worlds and settings on which methods are compared: `configs/synthetic.py` with twice as many people to train on.

  python -m experiments.sweep --config=configs/evidence.py --sweep=baselines --seeds=10,11,12,13,14 --jobs=2
  python -m experiments.sweep --config=configs/evidence.py --sweep=tuned --seeds=11,12,13,14,15 --jobs=2

4 to 8 minutes a run, two at a time on two cores. Chosen on data seeds 0 to 2, reported on 10 to 15 (README); mAP of the
last step, mean of both directions. Seed 0: frozen 29.1, pgm 45.6, cap 47.6, HiTPro 49.3, supervised 56.8.

Half the steps cannot tell methods apart: HiTPro 49.8, pgm 44.8, cap 41.7 on seed 0; on seed 10 frozen 30.2,
cluster_contrast 36.7, sdcl 37.3, adca 38.8, cap 40.2, pgm 41.1, HiTPro 45.0, and supervised no more than 45.8.

What each method was given: every baseline five trainings on seed 0 (sweep `tuning`), after the 40 combinations below.
HiTPro had more, some forty on seeds 0 to 2: those of `configs/synthetic.py` on the preset
`small`, and here on seed 0 with half the steps (49.8) a learning rate of 7e-4 (47.2), 3 ambiguous candidates in each
stage (46.1), these with loss.alpha 0.33, loss.intra 1 and loss.temperature 0.07 (47.3), and without all that the sweep
`additions` takes away, with a momentum of 0.2 (44.4). On `small`, seed 0, where 160 people are the limit: prototypes
relative to their view alone 47.4, with halves of tracklets as the measure of look-alikes 47.0, with a momentum of 0.9
and stage 1 balanced 46.0, with looser thresholds between the modalities besides 45.2 (0.39 of the tracklets have a
right positive at the end, for 0.26, and 0.30 of the positives are right, for 0.45), and none of it 46.1.

Studies on seeds 0, 1 and 2, one run each; the defaults give 49.3, 53.2 and 52.7 there. Chance is large: an earlier
commit, which differs in the order of sums, gave 53.0 on seed 0.
* What better positives are worth: with every true positive in place of both mined tables seed 0 gives 54.4, in place of
  stage 1's alone 51.8 (ids put in by hand, no part of this repository). Weights that are not the same for all rows (a
  sigmoid of how many deviations a similarity is above the mean best one, longer lists, stage 2 balanced as stage 1)
  are right for 0.46 of stage 2's mass instead of 0.40 and gave 49.5 and 53.5 on seeds 0 and 1.
* 0.85 right and 0.80 found is not in these features: on seed 0's last bank the nearest tracklet of the other modality
  is right for 0.25 of the tracklets; with each tracklet replaced by the mean of its person's in its modality, that is
  with a perfect stage 1, for 0.32, and 0.36 of the persons are right when matched one to one.
* The first steps matter. Our reading: prototypes are made with BatchNorm's running statistics, clips with those of
  their batch; on pretrained weights these differ, and training begins by closing that gap. At step 0 of seed 0 a
  training clip has a cosine of 0.47 to its own prototype, 0.69 if it is made with the running statistics too; when
  these have moved for 40 steps, 0.56, and 15 rivals of its view are nearer instead of 22. Nothing but statistics
  moving in the first tenth, level 1 then entering with level 2: 55.2, 52.8, 55.0. 40 steps at rate 0
  (optim.adapt_steps=40) give HiTPro 53.2 and 52.1 on seeds 0 and 1 for 49.3 and 53.2, which is chance or little more;
  baselines by `tuning` between 4.3 more (sdcl) and 1.4 less (cap). Off here; in `tuning` and `tuned` it is a choice.
* Whether level 1 pays is open. Without it and with nothing trained in the first tenth seed 0 gives 56.7 (56.4 with
  another config.seed) and seed 1 51.1, which compares with 55.2 and 52.8; with level 2 from the start instead 54.4 on
  seed 0; with all true positives 60.2. Level 1 fading to the end: 49.2 on seed 0; in the first fifth alone 50.0; on
  tracklets without positives alone 51.0; at a temperature of 0.2 49.5; a tenth of its weight and all levels from the
  start 51.0, and 49.8 on seed 1.
* For an open set stage 2 must be stricter: at seed 0's last bank of `open_set`, across.kappa 0.5 to the end gives a
  positive to 0.17 of the tracklets that have none to find, for 0.28, and a right one to 0.21 of the others, for 0.30.

Baselines on `small`, seed 0: with their papers' values cluster_contrast 12.6, adca 16.3, pgm 22.4, cap 39.3, sdcl 19.3.
The values below were taken from 40 combinations by number and purity of the frozen encoder's clusters there; with them
pgm 43.3, cap 40.6.
"""

from ml_collections import ConfigDict

from configs import synthetic


def get_config() -> ConfigDict:
    config = synthetic.get_config()
    config.data.preset = "medium"

    # three tracklets a person and modality: the papers' neighbourhoods join strangers
    clusters = config.clusters
    clusters.k1, clusters.k2, clusters.eps, clusters.min_samples = 8, 3, 0.5, 2
    config.cap.k1 = 8
    return config
