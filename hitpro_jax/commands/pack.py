"""`--mode=pack`: makes the packed cache that `data.packed` names, or checks every record of the one that is there."""

from collections.abc import Callable

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from hitpro_jax import evaluate
from hitpro_jax.data import packed


def pack(config: ConfigDict, say: Callable[[str], None]) -> None:
    """Packs the frames of the config's data set.

    Raises:
      ValueError: data.packed is not set, the data are faulty, or the folder holds something else.
      OSError: the disk is full.
    """
    data = config.data
    if not data.packed:
        raise ValueError("data.packed is not set: name the folder of the cache, --config.data.packed=/path/to/it")
    dataset, _ = evaluate.checked_data(config, say)
    if jax.process_index() > 0:
        return  # one process packs, with as many workers as it has cores
    packed.make(
        data.packed,
        dataset,
        tuple(data.image_size),
        quality=data.packed_quality,
        jobs=data.jobs,
        allow_missing=data.allow_missing,
        say=say,
        progress=lambda items, total: tqdm(items, total=total, desc="packed cache", mininterval=2.0),
    )
