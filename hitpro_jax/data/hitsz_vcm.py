"""`load` of HITSZ-VCM under the name that others already use; the reader lives in `data/sets/hitsz_vcm.py`."""

from hitpro_jax.data.sets.hitsz_vcm import load

__all__ = ["load"]
