"""Names of public image encoders: which family they belong to, which of ours they become, which are left out."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hitpro_jax.models.encoder import MEAN, STD

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
Tensors = dict[str, np.ndarray]
Rules = tuple[tuple[str, str], ...]  # path of a module in the source, a regular expression, to ours

_RESNET = (
    (r"(conv1|bn1)", r"stem_rgb/\1"),
    (r"layer(\d)\.(\d+)\.(conv\d|bn\d)", r"layer\1_\2/\3"),
    (r"layer(\d)\.(\d+)\.downsample\.0", r"layer\1_\2/conv_short"),
    (r"layer(\d)\.(\d+)\.downsample\.1", r"layer\1_\2/bn_short"),
)
_TIMM_BLOCKS = (
    (r"cls_token", "token"),
    (r"pos_embed", "positions"),
    (r"norm", "norm"),
    (r"blocks\.(\d+)\.(norm\d)", r"layer\1/\2"),
    (r"blocks\.(\d+)\.(?:attn|mlp)\.(qkv|proj|fc\d)", r"layer\1/\2"),
)
_TIMM = ((r"patch_embed\.proj", "stem_rgb"), *_TIMM_BLOCKS)
_ICS = (
    (r"patch_embed\.proj", "stem_rgb/patches"),
    *_TIMM_BLOCKS,
    (r"patch_embed\.conv\.0", "stem_rgb/conv1"),
    (r"patch_embed\.conv\.3", "stem_rgb/conv2"),
    (r"patch_embed\.conv\.6", "stem_rgb/conv3"),
    (r"patch_embed\.conv\.7", "stem_rgb/norm3"),
    (r"patch_embed\.conv\.1\.IN", "stem_rgb/norm1/instance"),
    (r"patch_embed\.conv\.1\.BN", "stem_rgb/norm1/batch"),
    (r"patch_embed\.conv\.4\.IN", "stem_rgb/norm2/instance"),
    (r"patch_embed\.conv\.4\.BN", "stem_rgb/norm2/batch"),
)
_BLOCK = r"transformer\.resblocks\.(\d+)\."
_CLIP = (
    (r"class_embedding", "token"),
    (r"positional_embedding", "positions"),
    (r"conv1", "stem_rgb"),
    (r"ln_pre", "norm_pre"),
    (r"ln_post", "norm"),
    (_BLOCK + r"ln_(\d)", r"layer\1/norm\2"),
    (_BLOCK + r"attn\.in_proj", r"layer\1/qkv"),
    (_BLOCK + r"attn\.out_proj", r"layer\1/proj"),
    (_BLOCK + r"mlp\.c_fc", r"layer\1/fc1"),
    (_BLOCK + r"mlp\.c_proj", r"layer\1/fc2"),
)
_LAYER = r"encoder\.layers\.(\d+)\."
_CLIP_HF = (
    (r"embeddings\.class_embedding", "token"),
    (r"embeddings\.position_embedding", "positions"),
    (r"embeddings\.patch_embedding", "stem_rgb"),
    (r"pre_layrnorm", "norm_pre"),  # transformers' own spelling
    (r"post_layernorm", "norm"),
    (_LAYER + r"layer_norm(\d)", r"layer\1/norm\2"),
    (_LAYER + r"self_attn\.qkv", r"layer\1/qkv"),
    (_LAYER + r"self_attn\.out_proj", r"layer\1/proj"),
    (_LAYER + r"mlp\.(fc\d)", r"layer\1/\2"),
)


class Family(NamedTuple):
    """A way of naming an image encoder's tensors.

    Attributes:
      marker: a name that only this family has.
      backbone: `encoder.backbone` of the converted weights.
      rules: names in the source to ours; the first that fits counts.
      mean: of the pixels that the weights were trained with, in [0, 1].
      std: their deviation.
      may_lack: leaves of ours that the family's models do not have.
    """

    marker: str
    backbone: str
    rules: Rules
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    may_lack: tuple[str, ...] = ()


_NO_BIAS = ("params/backbone/stem_rgb/bias",)  # CLIP's patch embedding has none; folding its pixels makes one
FAMILIES = {  # tried in this order: transreid_ssl has timm's marker, too
    "torchvision": Family("layer1.0.conv1.weight", "resnet50", _RESNET),
    "transreid_ssl": Family("patch_embed.conv.0.weight", "vit_b16_ics", _ICS),
    "timm": Family("blocks.0.attn.qkv.weight", "vit_b16", _TIMM),
    "clip": Family("transformer.resblocks.0.attn.in_proj.weight", "vit_b16_clip", _CLIP, CLIP_MEAN, CLIP_STD, _NO_BIAS),
    "clip_hf": Family("encoder.layers.0.self_attn.qkv.weight", "vit_b16_clip", _CLIP_HF, CLIP_MEAN, CLIP_STD, _NO_BIAS),
}
# prefixes that training programs put before the model's own names, such as torch's DataParallel
WRAPPERS = r"^(?:module\.|backbone\.|base\.|model\.)+"
# prefixes of the image encoder within a whole CLIP
TOWER = r"^(?:visual|vision_model|image_encoder)\."
# What no encoder of ours has.
HEADS = re.compile(
    r"(?:fc|head|head_dist|pre_logits|(?:classifier|bottleneck)(?:_proj)?)\..*|proj"
    r"|.*num_batches_tracked|embeddings\.position_ids"
)
TEXT = re.compile(
    r"(?:transformer|text_model|text_encoder|prompt_learner|token_embedding|ln_final|text_projection"
    r"|visual_projection)\b.*|positional_embedding|logit_scale|input_resolution|context_length"
    r"|vocab_size"
)


class Source(NamedTuple):
    """Tensors of the image encoder under the source's bare names.

    Attributes:
      family: key of FAMILIES.
      tensors: arrays by bare name.
      left_out: names in the file that were left out by rule, sorted.
      origin: bare name to the name in the file, or to several joined by " + ".
    """

    family: str
    tensors: Tensors
    left_out: list[str]
    origin: dict[str, str]


def recognise(tensors: Mapping[str, np.ndarray], path: str | Path, family: str = "") -> Source:
    """Strips wrappers' prefixes, leaves heads and text towers out, joins split projections, finds the family.

    Args:
      tensors: arrays by the names in the file.
      path: of the file, for messages.
      family: key of FAMILIES; "": found by its marker.

    Returns:
      What is left, by bare name.

    Raises:
      ValueError: two names become one, or the names are those of no known family.
    """
    bare, origin, tower = {}, {}, any(re.match(TOWER, re.sub(WRAPPERS, "", name)) for name in tensors)
    left_out = []
    for full, value in tensors.items():
        name = re.sub(WRAPPERS, "", full)
        outside = tower and not re.match(TOWER, name)  # beside the image tower of a whole CLIP
        name = re.sub(TOWER, "", name)
        if HEADS.fullmatch(name) or (outside and TEXT.fullmatch(name)):
            left_out.append(full)
        elif name in bare:
            raise ValueError(f"{path} holds {name} twice under different prefixes: give the weights of one model")
        else:
            name = f"outside:{full}" if outside else name
            bare[name], origin[name] = value, full
    parts = _joined(bare)
    bare = {
        name: np.concatenate([bare[part] for part in trio]) if trio[1:] else bare[trio[0]]
        for name, trio in parts.items()
    }
    origin = {name: " + ".join(origin[part] for part in trio) for name, trio in parts.items()}
    family = family or next((key for key, known in FAMILIES.items() if known.marker in bare), "")
    if family not in FAMILIES:
        known = ", ".join(f"{key} (has {value.marker})" for key, value in FAMILIES.items())
        raise ValueError(
            f"the names in {path} are of no known family, they begin with {sorted(bare)[:3]}; known: {known}"
        )
    return Source(family, bare, sorted(left_out), origin)


def _joined(names: Collection[str]) -> dict[str, list[str]]:
    """The names to translate, each with those that it is made of.

    The q, k and v projections of transformers become one, and its table of positions a plain tensor. The in_proj of
    torch becomes a module.
    """
    out = {}
    for name in names:
        trio = [re.sub(r"\.[qkv]_proj\.", f".{part}_proj.", name) for part in "qkv"]
        if len(set(trio)) == 3 and all(part in names for part in trio):
            out[trio[0].replace(".q_proj.", ".qkv.")] = trio
        else:
            plain = name.replace("position_embedding.weight", "position_embedding")
            out[re.sub(r"\.in_proj_(weight|bias)$", r".in_proj.\1", plain)] = [name]
    return out


def translate(name: str, value: np.ndarray, rules: Rules) -> str | None:
    """Our name of a source's tensor.

    Args:
      name: bare name in the source.
      value: the tensor, whose rank distinguishes a scale from a kernel.
      rules: of the family.

    Returns:
      The "/"-joined name; None where no rule fits.

    >>> translate("layer1.0.downsample.1.running_var", np.ones(4), _RESNET)
    'batch_stats/backbone/layer1_0/bn_short/var'
    """
    module, _, leaf = name.rpartition(".")
    if leaf not in ("weight", "bias", "running_mean", "running_var"):
        module, leaf = name, ""
    for pattern, target in rules:
        if match := re.fullmatch(pattern, module):
            kind = "batch_stats" if leaf.startswith("running") else "params"
            last = {
                "weight": "/scale" if value.ndim == 1 else "/kernel",
                "bias": "/bias",
                "running_mean": "/mean",
                "running_var": "/var",
                "": "",
            }[leaf]
            return f"{kind}/backbone/{match.expand(target)}{last}"
    return None
