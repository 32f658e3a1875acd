"""Frame backbones, temporal aggregation and the encoder around them: the only package that defines Flax modules."""
