"""Named sweeps: plain generators of (variant, overrides of config fields); `sweep.py` runs them."""

from collections.abc import Iterator


def components() -> Iterator[tuple[str, dict]]:
    """HiTPro, each part of it taken away in turn, and the one part that is off by default put in."""
    yield "HiTPro", {}
    yield "without stage 2 and level 3", {"across.enabled": False}
    yield "without stage 1 and level 2", {"within.enabled": False}
    yield "without level 1", {"loss.intra": 0.0}
    yield "with the frame term", {"loss.frame": 0.5}


def methods() -> Iterator[tuple[str, dict]]:
    """HiTPro and the adapted baselines, each with the values of its paper."""
    yield "HiTPro", {}
    for name in ("frozen", "cluster_contrast", "adca", "pgm", "cap", "sdcl", "supervised"):
        yield name, {"method.name": name}


SWEEPS = {"components": components, "methods": methods}
