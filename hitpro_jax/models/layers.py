"""What the backbones share: their contract, the convolution, and the way of frames through one stem per modality."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from hitpro_jax.types import IR_ONLY, RGB_ONLY, Layout

STEM_RGB, STEM_IR = "stem_rgb", "stem_ir"  # names of a backbone's first layers, one set of weights per modality


class Backbone(Protocol):
    """A frame encoder: the contract of everything in `backbones.BACKBONES`.

    It is a Flax module. Its submodules STEM_RGB and STEM_IR have the same shapes, so that pretrained weights of one fit
    the other; all else is shared by the modalities.
    """

    def __call__(self, x: jax.Array, layout: Layout, length: int, train: bool) -> jax.Array:
        """Pooled features of frames.

        Args:
          x: [B * T, H, W, 3] float32, normalised pixels, clip by clip.
          layout: which clips are of which modality; static.
          length: T, frames of a clip; static.
          train: BatchNorm uses the batch's statistics; static.

        Returns:
          [B * T, D] float32.
        """
        ...


class Conv(nn.Module):
    """A convolution without bias, padded alike on both sides: [B, H, W, C] to [B, H / s, W / s, features].

    Attributes:
      features: channels of the output.
      kernel: height and width of the kernel, odd.
      stride: s.
      as_product: write it as shifted slices and one matrix product, equal to rounding. Choice: several times faster on
        CPUs, where XLA is slow in the backward pass of convolutions on small maps; leave it off on GPUs and TPUs.
      dtype: of the products.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    as_product: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The convolved maps, of type `dtype`."""
        k, s = self.kernel, self.stride
        shape = (k, k, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        # as torch pads, for the sake of pretrained weights
        pad = (k - 1) // 2
        if not self.as_product:
            return jax.lax.conv_general_dilated(
                x, kernel, (s, s), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        height, width = -(-x.shape[1] // s), -(-x.shape[2] // s)
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        taps = [
            x[:, i : i + s * (height - 1) + 1 : s, j : j + s * (width - 1) + 1 : s] for i in range(k) for j in range(k)
        ]
        # tap (i, j) is what kernel entry (i, j) meets: stacked by channel, all of them are one product
        return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, self.features)


def through_stems(
    rgb: nn.Module, ir: nn.Module, x: jax.Array, layout: Layout, length: int, initializing: bool
) -> jax.Array:
    """Sends every clip's frames through the stem of its modality.

    Args:
      rgb: the stem of visible clips; maps [N, ..] to [N, ..].
      ir: the stem of infrared clips.
      x: [B * T, ..], clip by clip.
      layout: which clips are of which modality; static.
      length: T, frames of a clip; static.
      initializing: whether the call only makes parameters; static.

    Returns:
      [B * T, ..], in the order of x.
    """
    if initializing:  # both stems must exist whatever the first batch holds
        return rgb(x) + ir(x)
    if layout == RGB_ONLY:
        return rgb(x)
    if layout == IR_ONLY:
        return ir(x)
    # modalities in turn, not two halves of a batch: pairs stay together on their device, and splitting them takes no
    # communication
    pairs = x.reshape(-1, 2, length, *x.shape[1:])
    split = [stem(pairs[:, i].reshape(-1, *x.shape[1:])) for i, stem in enumerate((rgb, ir))]
    split = [y.reshape(-1, length, *y.shape[1:]) for y in split]
    return jnp.stack(split, axis=1).reshape(-1, *split[0].shape[2:])
