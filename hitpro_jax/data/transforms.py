"""Augmentation of one clip: every random number is drawn once and holds for all frames of the clip.

A clip is uint8 [T, H, W, 3] in RGB order; infrared clips hold three equal channels. Nothing here changes its
input, and every random number comes from the generator that is handed in.
"""

import cv2
import numpy as np

from hitpro_jax.options import AugmentOptions
from hitpro_jax.types import IR, RGB

NORMAL = AugmentOptions()
# ImageNet's mean colour, in RGB order: zero once the encoder has normalised its input.
MEAN_COLOUR = np.array([124, 116, 104], np.uint8)


def augment(clip: np.ndarray, modality: int, rng: np.random.Generator, options: AugmentOptions = NORMAL) -> np.ndarray:
    """Returns a randomly shifted, flipped, recoloured and partly erased clip, alike in all frames.

    Args:
      clip: uint8 [T, H, W, 3], T frames of H x W pixels.
      modality: RGB clips get `random_channel`, IR clips `random_intensity`.
      rng: source of every random number.
      options: probabilities of each change, and the border as a share of the height.

    Returns:
      uint8 [T, H, W, 3].

    Raises:
      ValueError: the modality is neither RGB nor IR.

    Choice: the same operations as ADCA and CAJ, drawn per clip instead of per image, because a change from frame to
    frame would look like motion to the temporal layer.
    """
    if modality not in (RGB, IR):
        raise ValueError(f"modality must be {RGB} (RGB) or {IR} (IR), but is {modality}")
    clip = pad_crop(clip, rng, border=round(options.pad * clip.shape[1]))
    if rng.random() < options.flip:
        clip = mirror(clip)
    if rng.random() < options.colour:
        clip = random_channel(clip, rng) if modality == RGB else random_intensity(clip, rng)
    if rng.random() < options.erase:
        clip = random_erase(clip, rng)
    return clip


def resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the frame [h, w, 3] scaled to [height, width, 3], bilinear, without a crop (from M3-ReID)."""
    if frame.shape[:2] == (height, width):
        return frame
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)


def mirror(clip: np.ndarray) -> np.ndarray:
    """Returns the clip [T, H, W, 3] with left and right exchanged."""
    return cv2.flip(_rows(clip), 1).reshape(clip.shape)


def pad_crop(clip: np.ndarray, rng: np.random.Generator, *, border: int) -> np.ndarray:
    """Returns a crop of the clip's own size out of the clip framed by `border` black pixels (from ADCA).

    Both shifts are uniform over -border .. border pixels; a border of 0 returns a copy. 0 <= border < H, W.
    """
    height, width = clip.shape[1:3]
    down, right = rng.integers(-border, border + 1, size=2)
    shifted = np.zeros(clip.shape, np.uint8)
    kept = clip[:, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    shifted[:, max(down, 0) :, max(right, 0) :][:, : kept.shape[1], : kept.shape[2]] = kept
    return shifted


def random_erase(
    clip: np.ndarray,
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: float = 0.3,
    attempts: int = 100,
) -> np.ndarray:
    """Returns the clip with one rectangle set to the mean colour (random erasing, parameters from CAP).

    Args:
      clip: uint8 [T, H, W, 3].
      rng: source of every random number.
      area: least and greatest size of the rectangle as a share of the image.
      aspect: height / width is uniform in [aspect, 1 / aspect].
      attempts: rectangles drawn until one fits; if none does, the clip is returned as it is.

    Returns:
      uint8 [T, H, W, 3].
    """
    height, width = clip.shape[1:3]
    for _ in range(attempts):
        pixels = rng.uniform(*area) * height * width
        ratio = rng.uniform(aspect, 1 / aspect)
        tall, wide = round(np.sqrt(pixels * ratio)), round(np.sqrt(pixels / ratio))
        if tall < height and wide < width:
            top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
            clip = clip.copy()
            clip[:, top : top + tall, left : left + wide] = MEAN_COLOUR
            return clip
    return clip


def random_channel(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the clip in grey: its red, green or blue channel three times, or its luma (from CAJ).

    Which of the four is uniform. It takes colour away, the cue that infrared lacks.
    """
    rows = _rows(clip)
    channel = rng.integers(4)
    grey = cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY) if channel == 3 else cv2.extractChannel(rows, int(channel))
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB).reshape(clip.shape)


def random_intensity(
    clip: np.ndarray,
    rng: np.random.Generator,
    *,
    gain: tuple[float, float] = (0.7, 1.3),
    gamma: tuple[float, float] = (0.7, 1.4),
) -> np.ndarray:
    """Returns the clip with x -> gain * x^gamma on x in [0, 1], equal on all channels."""
    # exposure and sensor response, in which infrared cameras differ most; one curve keeps grey clips grey
    curve = rng.uniform(*gain) * np.linspace(0, 1, 256) ** rng.uniform(*gamma)
    table = np.rint(255 * np.clip(curve, 0, 1)).astype(np.uint8)
    return cv2.LUT(_rows(clip), table).reshape(clip.shape)


def _rows(clip: np.ndarray) -> np.ndarray:
    """Returns the frames of a clip below each other, as one image [T * H, W, 3] for OpenCV."""
    return np.ascontiguousarray(clip).reshape(-1, clip.shape[2], 3)
