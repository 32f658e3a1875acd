"""HiTPro in JAX: unsupervised visible-infrared person re-identification from video tracklets."""
