"""Hyperparameters of the few-shot teachers, and the steps of each fit. Standard library only.

CLAP's are a part of the recipe. The others are those of the papers and of the released code; where these search on
validation images, one value is fixed here for all data sets, as Silva-Rodriguez et al. (2024) ask for.
"""

from activekd.recipes import ClapRecipe

TIP_RESIDUAL_RATIO, TIP_SHARPNESS = 1.0, 1.0
"""alpha and beta of Tip-Adapter-F: the values with which the released code trains the keys on most data sets.

It then searches both on validation images.
"""

TIP_LR, TIP_EPS, TIP_WEIGHT_DECAY = 1e-3, 1e-4, 1e-2
"""AdamW of Tip-Adapter-F: learning rate, which falls to 0 along a cosine, and epsilon as released, decay of torch."""

TIP_EPOCHS, TIP_BATCH = 20, 256
"""Passes over the labeled images, and images a step, of Tip-Adapter-F (Zhang et al. 2022, Section 4.1)."""

LPP_STEPS, LPP_ALPHA_EVERY, LPP_MOMENTUM = 300, 10, 0.9
"""Full-batch steps of LP++ on the visual prototypes, how many of them come before each step on the blending
parameters, and the momentum of the former: as released (Huang et al. 2024)."""

LPP_ALPHA_START = 2.5
"""Start of LP++'s blending parameters, as a multiple of the logit scale times the mean cosine of the labeled images
and the text of their class: 250 for CLIP's scale of 100 (Huang et al. 2024, Equation 15, as released)."""

TRANSCLIP_TEXT, TRANSCLIP_LIKELIHOOD = 0.5, 1 / 50
"""Weights of the text prior (lambda) and of the logarithm of the Gaussian density of TransCLIP-FS, as released."""

TRANSCLIP_NEIGHBOURS, TRANSCLIP_OUTER, TRANSCLIP_INNER = 3, 10, 5
"""Neighbours of an image, updates of TransCLIP's Gaussians, and updates of the assignments before each, as released."""

TRANSCLIP_CONFIDENT = 8
"""Confident images that start the mean of a class without labels, as of TransCLIP-ZS (Zanella et al. 2024)."""


def fit_steps(adaptation: str, n_labeled: int, clap: ClapRecipe) -> int:
    """Steps of one fit of a teacher: optimiser steps, or updates of TransCLIP's Gaussians; 0 where nothing is fitted.

    Args:
        adaptation: key of ``activekd.teachers.ADAPTATIONS``.
        n_labeled: labeled images.
        clap: of the recipe.
    """
    match adaptation:
        case "zeroshot":
            return 0
        case "tip_adapter":
            return TIP_EPOCHS * -(-n_labeled // TIP_BATCH)
        case "lp++":
            return LPP_STEPS
        case "transclip":
            return TRANSCLIP_OUTER
    return clap.epochs * -(-n_labeled // clap.batch)


def fit_numbers(adaptation: str, n_labeled: int, width: int) -> int:
    """Numbers that the fit of one teacher holds for its labeled images: Tip-Adapter-F's keys, their gradient and both
    moments of AdamW, and the images of an epoch; 0 for the others, whose fits hold a few rows of each class.

    Args:
        adaptation: key of ``activekd.teachers.ADAPTATIONS``.
        n_labeled: labeled images.
        width: of the image features.
    """
    return 5 * n_labeled * width if adaptation == "tip_adapter" else 0
