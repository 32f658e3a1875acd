"""State dicts of public models in their own names, with weights that are a pure function of (name, shape).

Both sides of the parity tests draw from here: the script that runs PyTorch's modules and the tests that run ours.
"""

import zlib

import numpy as np

Shapes = dict[str, tuple[int, ...]]


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32, scaled so that activations stay of order 1; RandomState, because NumPy never changes its stream."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(100, np.int64)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("weight") and "position" not in name:
        fan_in = np.prod(shape[1:])
        return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
    return (0.3 * rng.standard_normal(shape)).astype(np.float32)


def state_dict(shapes: Shapes) -> dict[str, np.ndarray]:
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def frames(size: tuple[int, int], count: int = 4) -> np.ndarray:
    """uint8 [count, H, W, 3] noise with different brightness and contrast."""
    rng = np.random.RandomState(7)
    return np.stack([rng.randint(30 * i, 160 + 25 * i, (*size, 3)) for i in range(count)]).astype(np.uint8)


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.{leaf}": (width,) for leaf in ("weight", "bias")}


def _batch_norm(name: str, width: int) -> Shapes:
    return {
        **_norm(name, width),
        f"{name}.running_mean": (width,),
        f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked": (),
    }


def _dense(name: str, fan_in: int, fan_out: int) -> Shapes:
    return {f"{name}.weight": (fan_out, fan_in), f"{name}.bias": (fan_out,)}


def torchvision(depths: tuple[int, ...]) -> Shapes:
    """torchvision's bottleneck ResNets; (3, 4, 6, 3) is ResNet-50."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **_batch_norm("bn1", 64)}
    before = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for index in range(depth):
            block = f"layer{stage + 1}.{index}"
            shapes |= {
                f"{block}.conv1.weight": (width, before, 1, 1),
                **_batch_norm(f"{block}.bn1", width),
                f"{block}.conv2.weight": (width, width, 3, 3),
                **_batch_norm(f"{block}.bn2", width),
                f"{block}.conv3.weight": (4 * width, width, 1, 1),
                **_batch_norm(f"{block}.bn3", 4 * width),
            }
            if index == 0:
                shapes |= {
                    f"{block}.downsample.0.weight": (4 * width, before, 1, 1),
                    **_batch_norm(f"{block}.downsample.1", 4 * width),
                }
            before = 4 * width
    return shapes | _dense("fc", before, 10)


def timm(width: int, depth: int, positions: int = 197, patch: int = 16) -> Shapes:
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, positions, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for index in range(depth):
        block = f"blocks.{index}"
        shapes |= {
            **_norm(f"{block}.norm1", width),
            **_dense(f"{block}.attn.qkv", width, 3 * width),
            **_dense(f"{block}.attn.proj", width, width),
            **_norm(f"{block}.norm2", width),
            **_dense(f"{block}.mlp.fc1", width, 4 * width),
            **_dense(f"{block}.mlp.fc2", 4 * width, width),
        }
    return shapes | _norm("norm", width) | _dense("head", width, 10)


def transreid_ssl(width: int, depth: int, positions: int = 129) -> Shapes:
    """With the ICS stem: 64 channels at half the resolution, then patches of 8; 16 x 8 positions."""
    shapes = timm(width, depth, positions, 8) | {"patch_embed.proj.weight": (width, 64, 8, 8)}
    for index, (fan_in, kernel) in {0: (3, 7), 3: (64, 3), 6: (64, 3)}.items():
        shapes[f"patch_embed.conv.{index}.weight"] = (64, fan_in, kernel, kernel)
    for index in (1, 4):
        shapes |= _norm(f"patch_embed.conv.{index}.IN", 32) | _batch_norm(f"patch_embed.conv.{index}.BN", 32)
    return shapes | _batch_norm("patch_embed.conv.7", 64)


def clip(width: int, depth: int, positions: int = 197) -> Shapes:
    """OpenAI's names of the image tower (in a whole CLIP they stand below `visual.`)."""
    shapes = {
        "class_embedding": (width,),
        "positional_embedding": (positions, width),
        "proj": (width, 8),
        "conv1.weight": (width, 3, 16, 16),
        **_norm("ln_pre", width),
        **_norm("ln_post", width),
    }
    for index in range(depth):
        block = f"transformer.resblocks.{index}"
        shapes |= {
            **_norm(f"{block}.ln_1", width),
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
            **_dense(f"{block}.attn.out_proj", width, width),
            **_norm(f"{block}.ln_2", width),
            **_dense(f"{block}.mlp.c_fc", width, 4 * width),
            **_dense(f"{block}.mlp.c_proj", 4 * width, width),
        }
    return shapes


def clip_hf(width: int, depth: int, positions: int = 197) -> Shapes:
    """transformers' names of the image tower (on the hub they stand below `vision_model.`)."""
    shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.position_embedding.weight": (positions, width),
        "embeddings.patch_embedding.weight": (width, 3, 16, 16),
        **_norm("pre_layrnorm", width),
        **_norm("post_layernorm", width),
    }
    for index in range(depth):
        block = f"encoder.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _dense(f"{block}.self_attn.{part}", width, width)
        shapes |= {
            **_norm(f"{block}.layer_norm1", width),
            **_norm(f"{block}.layer_norm2", width),
            **_dense(f"{block}.mlp.fc1", width, 4 * width),
            **_dense(f"{block}.mlp.fc2", 4 * width, width),
        }
    return shapes
