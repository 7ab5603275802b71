"""The embedded teacher: trains a small CLIP on rendered glyphs with captions, and measures it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from activekd.errors import InputError
from activekd.networks.vision_language import WEIGHTS
from activekd.streams import stream, torch_seed
from activekd.teachers.encoder import load_encoder
from activekd.teachers.logits import LOGIT_SCALE, teacher_logits
from bench.terminal import console, user_errors

DIGITS = "0123456789"
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Capital letters, but for O and I, which many fonts draw as 0 and 1."""

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
"""Renderings of a character in a font, each with its own pose."""

BATCH = 128
PEAK_LR = 2e-3
WEIGHT_DECAY = 0.05
LETTER_SHARE = 0.25

CARD = WEIGHTS / "glyphclip.md"
BLOCK = "measured"
MEASURED_ON = ("digits", "mnist5k")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown", help=__doc__)


@dataclass(frozen=True)
class Glyphs:
    """Rendered glyphs, white on black in [0, 1], with the index of their character in DIGITS + LETTERS."""

    images: Tensor
    characters: np.ndarray


def fonts() -> list[Path]:
    """The fonts that matplotlib ships and that draw every character, in a fixed order."""
    import matplotlib

    found = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf"))
    return [path for path in found if _draws_all(path)]


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
    """Elastic warp, stroke, blur to a low resolution, contrast and noise: towards handwriting, without seeing any."""
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

    open_clip.add_model_config(WEIGHTS / "glyphclip.json")
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
        own_caption = np.array([rng.choice(texts_of[c]) for c in characters])
        used, position = np.unique(own_caption, return_inverse=True)
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


@app.command(epilog="Example: `python -m bench.glyphclip train --out /tmp/glyphclip`")
def train(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = WEIGHTS,
    steps: Annotated[int, typer.Option(min=20, help="Optimiser steps.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the teacher from random weights and write glyphclip.safetensors."""
    from safetensors.torch import save_file

    with user_errors():
        torch.set_num_threads(threads)
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "glyphclip.safetensors").open("ab").close()
        except OSError as fault:
            raise InputError(f"--out {out}: {fault}; expected: a writable folder") from fault
        weights = fit(steps, seed)
        save_file({k: v.contiguous() for k, v in weights.items()}, out / "glyphclip.safetensors")
        console.print(f"wrote {out / 'glyphclip.safetensors'}", soft_wrap=True)


@dataclass(frozen=True)
class Measured:
    """Zero-shot figures on a whole data set.

    Attributes:
        accuracy: top-1, in [0, 1].
        confidence: mean top probability, in [0, 1].
        wrong_confidence: mean top probability of the mistakes, in [0, 1].
        mistakes: the most frequent (true class, predicted class, count).
    """

    dataset: str
    n: int
    accuracy: float
    confidence: float
    wrong_confidence: float
    mistakes: tuple[tuple[str, str, int], ...]


@torch.inference_mode()
def measure_on(names: Sequence[str], cache: Path) -> list[Measured]:
    """Zero-shot accuracy and confidence of the committed teacher on all images of each data set."""
    from activekd.bank.views import compute
    from activekd.datasets import load_dataset
    from activekd.recipes import ViewGeometry

    encoder = load_encoder("glyphclip")
    geometry = ViewGeometry(count=1, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    out = []
    for name in names:
        dataset = load_dataset(name, cache)
        head = encoder.text_head(dataset.class_names, dataset.prompts)
        splits = (dataset.train, dataset.val, dataset.test)
        features = np.concatenate([compute(split.pixels, encoder, geometry, 0) for split in splits])
        labels = np.concatenate([split.labels for split in splits])
        probabilities = teacher_logits(torch.from_numpy(features), torch.from_numpy(head.zero_shot)).softmax(dim=1)
        top, predicted = (t.numpy() for t in probabilities.max(dim=1))
        wrong = predicted != labels
        pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:3]
        mistakes = tuple(
            (dataset.class_names[pairs[0, k]], dataset.class_names[pairs[1, k]], int(counts[k])) for k in order
        )
        out.append(
            Measured(name, len(labels), float(1 - wrong.mean()), float(top.mean()), float(top[wrong].mean()), mistakes)
        )
    return out


def measured_block(measured: Sequence[Measured]) -> str:
    """The generated table of the model card."""
    lines = [
        "| data set | images | zero-shot accuracy | mean confidence | confidence of mistakes | frequent mistakes |",
        "|---|---|---|---|---|---|",
    ]
    for m in measured:
        mistakes = ", ".join(f"{true} read as {read} ({count})" for true, read, count in m.mistakes)
        lines.append(
            f"| {m.dataset} | {m.n:,} | {m.accuracy:.1%} | {m.confidence:.2f} | {m.wrong_confidence:.2f} | {mistakes} |"
        )
    return "\n".join(lines)


@app.command(epilog="Example: `python -m bench.glyphclip measure --write`")
def measure(write: Annotated[bool, typer.Option("--write", help="Put the table into the model card.")] = False) -> None:
    """Measure the committed teacher, zero-shot, on the embedded data sets."""
    from bench.launch import cache_folder
    from bench.report.blocks import replace_block

    with user_errors():
        block = measured_block(measure_on(MEASURED_ON, cache_folder()))
        console.print(block, soft_wrap=True)
        if write:
            replace_block(CARD, BLOCK, block)


if __name__ == "__main__":
    app()
