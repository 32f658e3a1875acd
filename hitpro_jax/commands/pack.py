"""`--mode=pack`: makes the packed cache that `data.packed` names, or checks every record of the one that is there."""

import jax
from tqdm import tqdm

from hitpro_jax.data import packed
from hitpro_jax.run import Run


def main(run: Run) -> None:
    """Packs the frames of the run's data set.

    Raises:
      ValueError: data.packed is not set, the data are faulty, or the folder holds something else.
      OSError: the disk is full.
    """
    options = run.options.data
    if not options.packed:
        raise ValueError("data.packed is not set: name the folder of the cache, --config.data.packed=/path/to/it")
    dataset = run.dataset
    if jax.process_index() > 0:
        return  # one process packs, with as many workers as it has cores
    packed.make(
        options.packed,
        dataset,
        options.image_size,
        quality=options.packed_quality,
        jobs=options.jobs,
        allow_missing=options.allow_missing,
        log=run.workdir.log,
        progress=lambda items, total: tqdm(items, total=total, desc="packed cache", mininterval=2.0),
    )
