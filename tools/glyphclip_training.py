"""The training of the embedded teacher: a small CLIP on rendered glyphs with captions."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from activekd.networks.vision_language import vision_language_network
from activekd.streams import stream, torch_seed
from bench.terminal import console

DIGITS = "0123456789"
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Capital letters without O and I, which many fonts draw as 0 and 1."""

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_CAPTIONS = (
    'a photo of the number: "{0}".',
    "the number {0}",
    "a picture of a {0}",
    "the digit {1}",
    "a written {1}",
)
LETTER_CAPTIONS = ('a photo of the letter: "{0}".', "the letter {0}", "a picture of a {0}")

SIZE = 32
CANVAS = 64
COPIES = 12
"""Renderings of a digit in a font, each in another pose; a third as many of a letter."""

BATCH = 128
PEAK_LR = 2e-3
WEIGHT_DECAY = 0.05
LETTER_SHARE = 0.25
LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class Glyphs:
    """Rendered glyphs, white on black in [0, 1], with the index of their character in DIGITS + LETTERS."""

    images: Tensor
    characters: np.ndarray


def fonts() -> list[Path]:
    """The fonts that matplotlib ships and that draw every character, in a fixed order."""
    import matplotlib

    paths = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf"))
    return [path for path in paths if _draws_all(path)]


def _draws_all(path: Path) -> bool:
    font = ImageFont.truetype(str(path), 40)
    missing, *masks = (_drawn(font, character) for character in ("\U0010fffd", *DIGITS, *LETTERS))
    return len(set(masks)) == len(masks) and missing not in masks and all(any(mask) for mask in masks)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    return bytes(font.getmask(character))  # pyright: ignore[reportArgumentType]


def render_glyphs(seed: int) -> Glyphs:
    """Every character in every font, in COPIES random poses: size, place, rotation, shear and stroke."""
    rng = stream(seed, "glyphs")
    images, characters = [], []
    for path in track(fonts(), description="glyphs", console=console, disable=not console.is_terminal):
        for index, character in enumerate(DIGITS + LETTERS):
            copies = COPIES if character in DIGITS else COPIES // 3
            for _ in range(copies):
                images.append(_pose(path, character, rng))
                characters.append(index)
    stacked = torch.from_numpy(np.stack(images)).float().div_(255)
    return Glyphs(stacked[:, None], np.array(characters))


def _pose(path: Path, character: str, rng: np.random.Generator) -> np.ndarray:
    font = ImageFont.truetype(str(path), int(rng.integers(44, 60)))
    canvas = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(canvas).text(
        (CANVAS / 2, CANVAS / 2), character, fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(0, 3))
    )
    angle, shear = rng.normal(0, 0.15), rng.normal(0, 0.2)
    wide, high = rng.uniform(0.85, 1.4), rng.uniform(0.85, 1.2)
    cos, sin = math.cos(angle), math.sin(angle)
    a, b = cos * wide, (sin + shear) * high
    d, e = -sin * wide, cos * high
    middle = CANVAS / 2
    x, y = rng.normal(0, 2, size=2)
    offsets = (middle - a * (middle + x) - b * (middle + y), middle - d * (middle + x) - e * (middle + y))
    posed = canvas.transform(
        canvas.size, Image.Transform.AFFINE, (a, b, offsets[0], d, e, offsets[1]), Image.Resampling.BILINEAR
    )
    return np.asarray(posed.resize((SIZE, SIZE), Image.Resampling.BOX))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Elastic warp, stroke, low resolution, contrast and noise: closer to handwriting, of which none is seen."""
    n = len(images)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    bumps = torch.randn(n, 2, 5, 5, generator=generator) * (0.12 * uniform(n, 1, 1, 1))
    field = F.interpolate(bumps, size=(SIZE, SIZE), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    line = torch.linspace(-1, 1, SIZE)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    scale = 0.8 + 0.5 * uniform(n, 1, 1, 1)
    out = F.grid_sample(images, grid * scale + field, mode="bilinear", padding_mode="zeros", align_corners=True)
    thick = uniform(n, 1, 1, 1)
    out = torch.where(thick < 0.25, F.max_pool2d(out, 3, 1, 1), out)
    out = torch.where(thick > 0.85, -F.max_pool2d(-out, (1, 3), 1, (0, 1)), out)
    coarse = [8, 12, 20][int(torch.randint(3, (), generator=generator))]
    low = F.interpolate(F.interpolate(out, size=(coarse, coarse), mode="area"), size=(SIZE, SIZE), mode="bicubic")
    out = torch.where(uniform(n, 1, 1, 1) < 0.5, low, out)
    out = out * (0.6 + 0.8 * uniform(n, 1, 1, 1)) + 0.04 * torch.randn(out.shape, generator=generator)
    return out.clamp_(0, 1)


def captions(character: str) -> list[str]:
    """The captions of a character."""
    if character in DIGITS:
        return [c.format(character, WORDS[int(character)]) for c in DIGIT_CAPTIONS]
    return [c.format(character) for c in LETTER_CAPTIONS]


def contrastive_loss(image: Tensor, text: Tensor, same: Tensor) -> Tensor:
    """CLIP's symmetric loss (Radford et al. 2021) at the fixed scale 100, where all captions of a character match it.

    Args:
        image: image features, (batch, dim).
        text: caption features, (batch, dim).
        same: whether image i and caption j belong to one character, (batch, batch).
    """
    logits = LOGIT_SCALE * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    target = same.float() / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _new_model(seed: int) -> tuple[Any, Any]:
    import open_clip

    vision_language_network("glyphclip").register()
    torch.manual_seed(torch_seed(stream(seed, "glyphclip")))
    model: Any = open_clip.create_model("glyphclip", pretrained=None)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(LOGIT_SCALE))
    model.logit_scale.requires_grad_(False)
    return model, open_clip.get_tokenizer("glyphclip")


def fit(steps: int, seed: int) -> dict[str, Tensor]:
    """Train from random weights for so many steps; the last iterate, in fp16."""
    model, tokenizer = _new_model(seed)
    model = model.to(memory_format=torch.channels_last).train()
    glyphs = render_glyphs(seed)
    rng = stream(seed, "glyph batches")
    generator = torch.Generator().manual_seed(torch_seed(rng))
    texts = [(index, c) for index, character in enumerate(DIGITS + LETTERS) for c in captions(character)]
    tokens = tokenizer([c for _, c in texts])
    texts_of = [[k for k, (index, _) in enumerate(texts) if index == i] for i in range(len(DIGITS + LETTERS))]
    is_digit = glyphs.characters < len(DIGITS)
    pools = [np.flatnonzero(is_digit), np.flatnonzero(~is_digit)]
    preprocessing = model.visual.preprocess_cfg
    mean, std = (torch.tensor(preprocessing[key])[:, None, None] for key in ("mean", "std"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=steps, pct_start=0.1)
    letters = round(BATCH * LETTER_SHARE)
    shown = track(range(steps), description="training", console=console, disable=not console.is_terminal)
    for step in shown:
        chosen = np.concatenate([rng.choice(pools[0], BATCH - letters), rng.choice(pools[1], letters)])
        characters = glyphs.characters[chosen]
        caption = np.array([rng.choice(texts_of[c]) for c in characters])
        used, position = np.unique(caption, return_inverse=True)
        images = augment(glyphs.images[torch.from_numpy(chosen)], generator).expand(-1, 3, -1, -1)
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        text = model.encode_text(tokens[torch.from_numpy(used)])[torch.from_numpy(position)]
        same = torch.from_numpy(characters[:, None] == characters[None])
        loss = contrastive_loss(model.encode_image(images), text, same)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            console.print(f"step {step}: loss {loss.item():.3f}", highlight=False)
    return {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
