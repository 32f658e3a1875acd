"""Set before JAX is imported: CPU only, one device, compiled programs kept between runs."""

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

from absl import flags

flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags, which only app.run parses
