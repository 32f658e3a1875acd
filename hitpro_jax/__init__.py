"""HiTPro in JAX: unsupervised video-based visible-infrared person re-identification.

Public names are imported when first used, so that `import hitpro_jax` starts neither JAX nor Orbax. docs/index.md lists
them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hitpro_jax.data.sets.hitsz_vcm import load as load_hitsz_vcm
    from hitpro_jax.kernels.memory import momentum_update
    from hitpro_jax.kernels.mining.stages import across_modalities, same_view_ambiguity, within_modality
    from hitpro_jax.kernels.prototypes import aggregate_parts
    from hitpro_jax.kernels.segments import segment_mean
    from hitpro_jax.options import Options
    from hitpro_jax.run import open_run
    from hitpro_jax.scoring.ranks import retrieve
    from hitpro_jax.scoring.scores import score

__version__ = "0.1.0"

# module of each name, with the name it has there where that is another
_MODULES = {
    "Options": "hitpro_jax.options",
    "across_modalities": "hitpro_jax.kernels.mining.stages",
    "aggregate_parts": "hitpro_jax.kernels.prototypes",
    "load_hitsz_vcm": "hitpro_jax.data.sets.hitsz_vcm:load",
    "momentum_update": "hitpro_jax.kernels.memory",
    "open_run": "hitpro_jax.run",
    "retrieve": "hitpro_jax.scoring.ranks",
    "same_view_ambiguity": "hitpro_jax.kernels.mining.stages",
    "score": "hitpro_jax.scoring.scores",
    "segment_mean": "hitpro_jax.kernels.segments",
    "within_modality": "hitpro_jax.kernels.mining.stages",
}

__all__ = [
    "Options",
    "across_modalities",
    "aggregate_parts",
    "load_hitsz_vcm",
    "momentum_update",
    "open_run",
    "retrieve",
    "same_view_ambiguity",
    "score",
    "segment_mean",
    "within_modality",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hitpro_jax' has no attribute {name!r}")
    module, _, inner = _MODULES[name].partition(":")
    return getattr(importlib.import_module(module), inner or name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
