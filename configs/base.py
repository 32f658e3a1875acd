"""Every field there is, with its meaning; the other configs change some of them. Lengths in frames, sizes in pixels."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # of initial weights, order, frame choice and augmentation

    config.method = method = ConfigDict()
    # hitpro | frozen | cluster_contrast | adca | pgm | cap | sdcl | supervised
    method.name = "hitpro"

    config.data = data = ConfigDict()
    # hitsz_vcm | buptcampus | synthetic | mot | folder | mars | sysu_mm01 | regdb | llcm
    data.name = "hitsz_vcm"
    data.protocol = ""  # BUPTCampus: full | full_no_camera | auxnet; "" where a data set has but one
    data.root = ""  # folder of the data set; "" lets `synthetic` and `mot` choose one below ./data
    data.image_size = (288, 144)  # height, width
    data.min_frames = 12  # shorter tracklets are dropped (HITSZ-VCM's rule)
    data.repair = False  # HITSZ-VCM: leave out of a row the frames that their names give to another person or modality
    data.auxiliary = False  # BUPTCampus: train on the auxiliary list too
    data.check_counts = True  # refuse a copy of the real set whose counts are not the published ones
    data.allow_missing = False  # True: leave out frames that are missing or do not decode
    data.cache = False  # keep decoded frames in memory; for small sets
    data.num_workers = 0  # reading processes; 0: threads of this process
    data.packed = ""  # folder of a packed cache, made by --mode=pack; "": read the images themselves
    data.packed_quality = 0  # of its frames: 0 keeps pixels as they are, 1 to 100 stores JPEG
    data.jobs = 0  # processes that draw or pack pictures; 0: one per core
    data.preset = "small"  # synthetic: tiny | small | medium | large | cameras | contaminated | unbalanced | open_set
    data.seed = 0  # synthetic: of the people
    data.camera_seed = 0  # synthetic: of the cameras
    data.cameras = ConfigDict()  # mot: one section a camera, see own_video.py
    data.csv = "tracklets.csv"  # folder: the table below data.root
    data.trial = 1  # regdb: split, 1 to 10; sysu_mm01 and llcm: draw of the gallery
    data.gallery = "all"  # sysu_mm01: all or indoor
    data.query = "ir"  # llcm: modality of the queries, ir or rgb

    config.encoder = encoder = ConfigDict()
    encoder.backbone = "resnet50"  # resnet50 | resnet_small | vit_b16 | vit_b16_clip | vit_b16_ics
    encoder.aggregator = "attention"  # attention | mean | gem
    # float32 | bfloat16, of the backbone's products. Their sums, the norms and a ViT's residual stream stay float32;
    # what passes from layer to layer of a ResNet, its residual stream too, is rounded to bfloat16.
    encoder.dtype = "float32"
    encoder.as_product = False  # convolutions as matrix products: faster on CPUs
    encoder.remat = False  # recompute activations in the backward pass: a quarter of the memory, a third more time
    encoder.norm_group = 0  # clips over which BatchNorm takes its statistics; 0: the whole batch of all devices

    config.mesh = ConfigDict()
    config.mesh.cut_parameters = False  # cut parameters and optimiser state over the devices instead of copying them

    config.init = ConfigDict()
    # a safetensors file (README, "Pretrained weights"), also looked for beside the package; "": random
    config.init.weights = ""

    config.batch = batch = ConfigDict()
    batch.tracklets_per_modality = 16
    batch.clips_per_tracklet = 2
    batch.clip_length = 6
    batch.partner_share = 0.5  # part of the batch drawn as mined partners of the rest

    config.augment = augment = ConfigDict()  # once per clip
    augment.flip = 0.5
    augment.pad = 10 / 288  # border before the random crop, share of the height
    augment.erase = 0.5
    augment.colour = 0.5

    config.prototypes = prototypes = ConfigDict()  # ICTP
    prototypes.parts = 4  # S sub-tracklets
    prototypes.clip_length = 6  # L frames of each
    prototypes.batch_size = 32  # clips embedded at once; a multiple of the devices, or the next one is taken
    prototypes.mode = "uniform"  # uniform | consistency
    prototypes.temperature = 0.1  # of `consistency`
    prototypes.momentum = 0.9  # weight of the old value

    config.within = _stage()  # HCPA stage 1
    config.within.camera_bias = "mean"  # none | mean | zscore
    config.within.balance = 10  # nearest candidates over which all rows are made equally near (CSLS); 0: not
    config.within.per_camera = 3

    config.across = _stage()  # HCPA stage 2
    config.across.debias = "mean"  # none | mean | balanced_knn
    config.across.cycle = True
    config.across.ban_same_camera = False  # True where RGB and IR of one camera are aligned twins (BUPTCampus)

    config.alignment = alignment = ConfigDict()  # how both stages find their candidates
    alignment.centre = True  # compare prototypes relative to the mean of their view
    alignment.search = "exact"  # exact | ivf: all pairs, or those in likely k-means cells (from 1e5 tracklets on)
    alignment.cells = 0  # ivf: k-means cells; 0: square root of the number of tracklets
    alignment.probes = 32  # ivf: cells in which each tracklet looks; its positives are in its own nearest ones

    config.loss = loss = ConfigDict()  # HCL
    loss.temperature = 0.05
    loss.intra = 1.0  # weight of level 1 at the start of training
    loss.intra_end = 1.0  # and the share of it that is left at the end
    loss.within = 0.5  # weight of level 2
    loss.across = 0.5  # weight of level 3
    loss.within_begin = 0.1  # share of training after which level 2 starts
    loss.across_begin = 0.2
    loss.ramp = 0.1  # share of training over which a level's weight grows to its full value
    loss.frame = 0.0  # weight of the frame-level term
    loss.alpha = 0.5  # weight of the own prototype in level 2's target
    loss.hard_negatives = 50
    loss.ambiguity = "positive"  # mask | positive | none: same-view prototypes that look like the same person
    loss.same_view = 5  # at most so many of them
    loss.same_view_rule = "parts"  # parts | stage1: as alike as the halves of one tracklet, or by stage 1's rule

    config.clusters = clusters = ConfigDict()  # baselines that cluster, see methods/clusters.py; values of their papers
    clusters.k1 = 30  # reciprocal neighbours
    clusters.k2 = 6  # neighbours averaged over
    clusters.eps = 0.6  # DBSCAN's distance
    clusters.min_samples = 4
    clusters.temperature = 0.05
    clusters.momentum = 0.1  # weight of the old centre
    clusters.positives = 10  # members of the own cluster that batches draw from and diagnostics read
    config.adca = ConfigDict()
    config.adca.begin = 0.5  # share of training after which its second stage begins
    config.adca.similarity = 0.5  # cosine from which two samples vote for their clusters
    config.adca.aggregation = 0.1  # weight of the own centre
    config.pgm = ConfigDict()
    config.pgm.begin = 0.5
    config.pgm.momentum = 0.2  # instead of that of `clusters`
    config.pgm.weight = 0.25  # of the cross contrast
    config.cap = cap = ConfigDict()  # the first four instead of those of `clusters`
    cap.k1 = 20
    cap.eps = 0.5
    cap.temperature = 0.07
    cap.momentum = 0.2
    cap.begin = 0.1  # share of training after which the inter-camera loss begins
    cap.weight = 0.5  # of that loss
    cap.hard_negatives = 50
    config.sdcl = sdcl = ConfigDict()
    sdcl.share = 0.9  # of a row's largest cosine, from which an instance is a neighbour
    sdcl.within = 1.0  # weight of neighbours of the own modality
    sdcl.across = 0.5  # and of the other one
    sdcl.begin = 0.2  # share of training after which the latter begin
    sdcl.instance_momentum = 0.9  # weight of the old value in the memory of instances
    config.supervised = ConfigDict()  # the reference with labels
    config.supervised.temperature = 0.07
    config.supervised.margin = 0.2
    config.supervised.triplet = 1.0  # weight of the triplet term

    config.optim = optim = ConfigDict()
    optim.name = "adam"  # adam | adamw | sgd
    optim.learning_rate = 3.5e-4
    optim.backbone_rate = 1.0  # share of the rate that the backbone gets; 0 freezes it
    optim.weight_decay = 5e-4
    optim.schedule = "steps"  # constant | cosine | steps
    optim.adapt_steps = 0  # steps at rate 0 before the warm-up: BatchNorm's statistics move to the data first
    optim.warmup_steps = 3000
    optim.clip_norm = 0.0  # 0: off

    config.train = train = ConfigDict()
    train.epochs = 50
    train.steps_per_epoch = 300
    train.eval_every = 5  # epochs; the last one is always evaluated
    train.save_every = 1  # epochs
    train.save_steps = 0  # and every so many steps; 0: only at the start of an epoch
    train.log_every = 10  # steps

    config.eval = ConfigDict()
    config.eval.frames = 6
    config.eval.batch_size = 32
    return config


def use_small_encoder(config: ConfigDict) -> None:
    """The encoder of 0.9 M parameters that comes with its weights, at its image size: what a CPU can train."""
    config.data.image_size = (64, 32)
    config.encoder.backbone = "resnet_small"
    config.encoder.as_product = True
    config.init.weights = "hitpro_jax/models/weights/resnet_small.safetensors"


def _stage() -> ConfigDict:
    stage = ConfigDict()
    stage.enabled = True
    stage.rule = "both"  # DTS: relative | statistic | both | fixed
    stage.rho = (0.95, 0.85)  # share of the anchor's best similarity, start and end of training
    stage.kappa = (0.5, -0.5)  # standard deviations above the mean best similarity
    stage.schedule = "linear"  # linear | cosine | constant | reverse
    stage.fixed = 0.5  # threshold of rule `fixed`
    stage.ema = 0.5  # weight of the last refresh's threshold
    stage.reciprocity = 20
    stage.positives = 10
    stage.weighting = "softmax"  # SWA: softmax | uniform | margin | vote | hard
    stage.temperature = 0.1
    stage.use_reliability = False
    stage.ambiguous = 10  # at most so many candidates just under the threshold are kept out of the negatives
    stage.band = 0.05
    stage.neighbours = 64  # candidates that the rules look at
    stage.block = 512  # rows of the similarity matrix held at once
    return stage
