"""Activations of PyTorch's own modules with the weights of tests/reference/public_weights.py, for the parity tests.

  python -m tests.goldens.make_model_goldens            # pip install -e .[parity]

Made with torch 2.13.0, torchvision 0.28.0, timm 1.0.31, transformers 5.23.0 and open_clip_torch 3.3.0 on a CPU. Each
file holds `features`, one row per frame of `public_weights.frames`: GeM (p = 3) of the last maps for the ResNets (last
stride 1), the normalised class token for the ViTs, their positions resized by torch (bicubic); and `early`, the mean
over positions after the first stage or block.
"""

from pathlib import Path

import numpy as np
import open_clip.transformer
import timm.models.vision_transformer
import torch
import torchvision
import transformers
from torch import nn
from torch.nn import functional

from tests.reference import public_weights as public

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5,) * 3, (0.5,) * 3
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZE, SMALL = (288, 144), (64, 32)  # pixels: height, width
NARROW, BASE = (128, 2, 4), (768, 12, 12)  # width, depth, heads


def pixels(size: tuple[int, int], statistics: tuple) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    return (torch.tensor(public.frames(size)).permute(0, 3, 1, 2) / 255.0 - mean) / std


def load(model: nn.Module, shapes: public.Shapes, position: str = "") -> nn.Module:
    """Strictly; positions of another grid are resized bicubically, as `models/pretrained/convert.py` does for all."""
    state = {name: torch.tensor(value) for name, value in public.state_dict(shapes).items()}
    if position:
        wanted, value = model.state_dict()[position], state[position]
        width, rows = value.shape[-1], SIZE[0] // 16
        grid = (14, 14) if value.numel() // width == 197 else (16, 8)
        cells = value.reshape(-1, width)[1:].T.reshape(1, width, *grid)
        cells = functional.interpolate(cells, (rows, SIZE[1] // 16), mode="bicubic", align_corners=False)
        state[position] = torch.cat([value.reshape(-1, width)[:1], cells.reshape(width, -1).T]).reshape(wanted.shape)
    model.load_state_dict(state)
    return model.eval()


def run(model: nn.Module, early: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's output, and what comes out of one of its parts."""
    seen = []
    handle = early.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        output = model(x)
    handle.remove()
    return output, seen[0] if torch.is_tensor(seen[0]) else seen[0][0]


def torchvision_resnet(depths: tuple[int, ...]) -> dict[str, np.ndarray]:
    model = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, list(depths), num_classes=10)
    model.layer4[0].conv2.stride = model.layer4[0].downsample[0].stride = (1, 1)
    load(model, public.torchvision(depths))
    x = pixels(SMALL, IMAGENET)
    _, early = run(model, model.layer1, x)
    _, maps = run(model, model.layer4, x)
    gem = (maps.clamp(min=1e-6) ** 3).mean((2, 3)) ** (1 / 3)
    return {"features": gem.numpy(), "early": early.mean((2, 3)).numpy()}


def timm_vit(
    width: int,
    depth: int,
    heads: int,
    statistics: tuple = IMAGENET,
    shapes=public.timm,
    embed: type = timm.models.vision_transformer.PatchEmbed,
) -> dict[str, np.ndarray]:
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=SIZE, embed_dim=width, depth=depth, num_heads=heads, num_classes=10, embed_layer=embed
    )
    load(model, shapes(width, depth), "pos_embed")
    _, early = run(model, model.blocks[0], pixels(SIZE, statistics))
    _, tokens = run(model, model.norm, pixels(SIZE, statistics))
    return {"features": tokens[:, 0].numpy(), "early": early.mean(1).numpy()}


class InstanceBatchNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.IN, self.BN = nn.InstanceNorm2d(width // 2, affine=True), nn.BatchNorm2d(width // 2)

    def forward(self, x):
        first, second = x.chunk(2, 1)
        return torch.cat([self.IN(first), self.BN(second)], 1)


class ConvolutionalStem(nn.Module):
    """The ICS patch embedding as the paper's appendix and the names in its weights describe it."""

    def __init__(self, img_size, embed_dim: int, **_):
        super().__init__()
        self.num_patches = img_size[0] * img_size[1] // 256
        self.conv = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            InstanceBatchNorm(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1, 1, bias=False),
            InstanceBatchNorm(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.proj = nn.Conv2d(64, embed_dim, 8, 8)

    def forward(self, x):
        return self.proj(self.conv(x)).flatten(2).transpose(1, 2)


def open_clip_vit(width: int, depth: int, heads: int) -> dict[str, np.ndarray]:
    model = open_clip.transformer.VisionTransformer(
        image_size=SIZE,
        patch_size=16,
        width=width,
        layers=depth,
        heads=heads,
        mlp_ratio=4.0,
        output_dim=8,
        act_layer=open_clip.transformer.QuickGELU,
    )
    load(model, public.clip(width, depth), "positional_embedding")
    _, early = run(model, model.transformer.resblocks[0], pixels(SIZE, CLIP))
    _, tokens = run(model, model.ln_post, pixels(SIZE, CLIP))
    return {"features": (tokens[:, 0] if tokens.ndim == 3 else tokens).numpy(), "early": early.mean(1).numpy()}


def transformers_vit(width: int, depth: int, heads: int) -> dict[str, np.ndarray]:
    config = transformers.CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        patch_size=16,
    )
    model = transformers.CLIPVisionModel(config)
    tokens = SIZE[0] * SIZE[1] // 256 + 1
    model.embeddings.position_embedding = nn.Embedding(tokens, width)
    model.embeddings.position_ids = torch.arange(tokens)[None]
    model.embeddings.image_size = SIZE[0]
    load(model, public.clip_hf(width, depth), "embeddings.position_embedding.weight")
    x = pixels(SIZE, CLIP)
    with torch.no_grad():  # its forward wants squares, so the embedding is put together from its own parts
        patches = model.embeddings.patch_embedding(x).flatten(2).transpose(1, 2)
        first = model.embeddings.class_embedding.expand(len(x), 1, -1)
        hidden = torch.cat([first, patches], 1) + model.embeddings.position_embedding.weight
        hidden = model.pre_layrnorm(hidden)
        states = model.encoder(inputs_embeds=hidden, output_hidden_states=True)
        features = model.post_layernorm(states.last_hidden_state[:, 0])
        early = model.encoder.layers[0](hidden, attention_mask=None)
    early = early if torch.is_tensor(early) else early[0]
    return {"features": features.numpy(), "early": early.mean(1).numpy()}


def main() -> None:
    goldens = {
        "torchvision_1111": torchvision_resnet((1, 1, 1, 1)),
        "torchvision_resnet50": torchvision_resnet((3, 4, 6, 3)),
        "timm_narrow": timm_vit(*NARROW, HALF),
        "timm_b16": timm_vit(*BASE),
        "transreid_ssl_narrow": timm_vit(*NARROW, shapes=public.transreid_ssl, embed=ConvolutionalStem),
        "clip_narrow": open_clip_vit(*NARROW),
        "clip_b16": open_clip_vit(*BASE),
        "clip_hf_narrow": transformers_vit(*NARROW),
    }
    for name, arrays in goldens.items():
        np.savez_compressed(Path(__file__).parent / "models" / f"{name}.npz", **arrays)
        print(name, {key: (value.shape, float(np.abs(value).max())) for key, value in arrays.items()})


if __name__ == "__main__":
    main()
