"""A recipe of a few steps, which tests vary with ``dataclasses.replace``."""

from activekd.recipes import ClapRecipe, Recipe

CLAP = ClapRecipe(lr=0.01, momentum=0.9, epochs=30, batch=8, warmup=0.1)
RECIPE = Recipe(
    lr=1.0,
    weight_decay=0.0,
    steps=4,
    step_rule="per_label",
    schedule="linear",
    warmup=0.5,
    batch_labeled=8,
    batch_unlabeled=16,
    weight_ce=0.5,
    weight_kd_labeled=0.5,
    weight_kd_unlabeled=0.5,
    temperature=2.0,
    label_weight=0.5,
    distill_temperature=1.0,
    single_view="targets",
    clap=CLAP,
)
