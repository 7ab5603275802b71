"""Strong views of unlabeled images, made in the batch on the device: of pixels, and of banked features."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

SMALLEST_CROP = 0.5
"""Smallest area of the crop of a strong view, as a share of the view that it is cut from."""

COLOUR = 0.5
"""Brightness, contrast and saturation are multiplied by 1 - COLOUR to 1 + COLOUR."""

LARGEST_CUT = 0.5
"""Longest side of the square that is cut out, as a share of the side of the view."""

GREY = 128.0
"""Value of the pixels that are cut out."""

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the grey value of a pixel (ITU-R BT.601)."""

NUMBERS = 9
"""Random numbers of a strong view: crop (area, x, y), brightness, contrast, saturation, cut (side, x, y)."""


@torch.no_grad()
def strong(
    images: UInt8[Tensor, "batch 3 size size"], numbers: Float[Tensor, "batch 9"]
) -> UInt8[Tensor, "batch 3 size size"]:
    """Strong views of drawn views: a square crop, brightness, contrast, saturation and a grey square, in this order.

    Ours, for speed: the batch stays on the device. RandAugment (Cubuk et al. 2020), which the papers of the objectives
    use, draws for each image a few of fourteen operations, among them rotation, shear, posterisation, solarisation and
    equalisation, on the host. Here every image has the same three kinds, each of random strength, and there is no
    geometric change but the crop; CutOut (DeVries & Taylor 2017) is there as in FixMatch. No flip: views of a
    geometry have one, where the mirror image has the same meaning.

    Args:
        images: views that training draws from.
        numbers: in [0, 1): crop (area, x, y), brightness, contrast, saturation, cut (side, x, y).
    """
    area, x, y, brightness, contrast, saturation, cut, cut_x, cut_y = numbers.unbind(dim=1)
    side = (SMALLEST_CROP + (1 - SMALLEST_CROP) * area).sqrt()
    zero = torch.zeros_like(side)
    rows = [
        torch.stack(row, dim=1)
        for row in ((side, zero, (2 * x - 1) * (1 - side)), (zero, side, (2 * y - 1) * (1 - side)))
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    out = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)

    def factor(number: Tensor) -> Tensor:
        return (1 + COLOUR * (2 * number - 1))[:, None, None, None]

    def grey(pixels: Tensor) -> Tensor:
        red, green, blue = pixels.unbind(dim=1)
        return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]

    out = (factor(brightness) * out).clamp(0, 255)
    mean = grey(out).mean(dim=(2, 3), keepdim=True)
    out = (mean + factor(contrast) * (out - mean)).clamp(0, 255)
    shade = grey(out)
    out = (shade + factor(saturation) * (out - shade)).clamp(0, 255)
    places = (torch.arange(images.shape[-1], device=images.device) + 0.5) / images.shape[-1]
    across, down = (((places - centre[:, None]).abs() < LARGEST_CUT * cut[:, None] / 2) for centre in (cut_x, cut_y))
    out = torch.where(down[:, None, :, None] & across[:, None, None, :], GREY, out)
    return out.round().to(torch.uint8)


def generators(seeds: Sequence[int], device: str) -> list[torch.Generator]:
    """The generators of the dropout masks of members, one each, so that company changes no mask.

    Args:
        seeds: of the members.
        device: of the fit, on which the masks depend.
    """
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def feature_dropout(
    features: Float[Tensor, "*members batch dim"], rate: float, drawn_from: Sequence[torch.Generator]
) -> Float[Tensor, "*members batch dim"]:
    """Strong views of banked features: numbers are 0 with probability ``rate``, the others divided by 1 - rate.

    Ours: a student on banked features has no pixels to change. The features are those of another crop than the weak
    view's, and dropout (Srivastava et al. 2014) on them takes the place of colour and cut-out.

    Args:
        features: of the other crops.
        rate: in [0, 1).
        drawn_from: a generator for each member, which moves on; one without members.
    """
    if rate == 0:
        return features
    shape = features.shape[-2:]
    kept = [torch.rand(shape, generator=each, device=features.device) >= rate for each in drawn_from]
    return features * torch.stack(kept).view(features.shape) / (1 - rate)
