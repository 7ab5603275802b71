"""The benchmark's eleven data sets: layout, prompts and published sizes."""

from dataclasses import dataclass

PHOTO = "a photo of a {}."
IMAGENET_SELECTED = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven templates that CLIP's authors selected for ImageNet."""


@dataclass(frozen=True)
class Catalogued:
    """A data set of the benchmark in CoOp layout (Zhou et al. 2022).

    Attributes:
        folder: its folder, relative to the data folder.
        images: folder of the images, relative to ``folder``; paths in the split file are relative to it.
        split: the split file, relative to ``folder``; None where official lists or class folders define the splits.
        prompts: templates with one ``{}``, as the paper used them.
        n_classes: number of classes.
        n_train: train images, before the pool is drawn.
        n_val: validation images.
        n_test: test images.
        pool: number of train images drawn as the pool; None for all of them.
    """

    folder: str
    images: str
    split: str | None
    prompts: tuple[str, ...]
    n_classes: int
    n_train: int
    n_val: int
    n_test: int
    pool: int | None = None

    @property
    def n_images(self) -> dict[str, int]:
        """Images of each split."""
        return {"train": self.n_train, "val": self.n_val, "test": self.n_test}

    @property
    def n_pool(self) -> int:
        """Images in the pool."""
        return self.n_train if self.pool is None else self.pool


CATALOG: dict[str, Catalogued] = {
    "caltech101": Catalogued(
        folder="caltech-101",
        images="101_ObjectCategories",
        split="split_zhou_Caltech101.json",
        prompts=(PHOTO,),
        n_classes=100,
        n_train=4128,
        n_val=1649,
        n_test=2465,
    ),
    "oxford_pets": Catalogued(
        folder="oxford_pets",
        images="images",
        split="split_zhou_OxfordPets.json",
        prompts=("a photo of a {}, a type of pet.",),
        n_classes=37,
        n_train=2944,
        n_val=736,
        n_test=3669,
    ),
    "stanford_cars": Catalogued(
        folder="stanford_cars",
        images=".",
        split="split_zhou_StanfordCars.json",
        prompts=(PHOTO,),
        n_classes=196,
        n_train=6509,
        n_val=1635,
        n_test=8041,
    ),
    "oxford_flowers": Catalogued(
        folder="oxford_flowers",
        images="jpg",
        split="split_zhou_OxfordFlowers.json",
        prompts=("a photo of a {}, a type of flower.",),
        n_classes=102,
        n_train=4093,
        n_val=1633,
        n_test=2463,
    ),
    "food101": Catalogued(
        folder="food-101",
        images="images",
        split="split_zhou_Food101.json",
        prompts=("a photo of {}, a type of food.",),
        n_classes=101,
        n_train=50500,
        n_val=20200,
        n_test=30300,
    ),
    "fgvc_aircraft": Catalogued(
        folder="fgvc_aircraft",
        images="images",
        split=None,
        prompts=("a photo of a {}, a type of aircraft.",),
        n_classes=100,
        n_train=3334,
        n_val=3333,
        n_test=3333,
    ),
    "sun397": Catalogued(
        folder="sun397",
        images="SUN397",
        split="split_zhou_SUN397.json",
        prompts=(PHOTO,),
        n_classes=397,
        n_train=15880,
        n_val=3970,
        n_test=19850,
    ),
    "dtd": Catalogued(
        folder="dtd",
        images="images",
        split="split_zhou_DescribableTextures.json",
        prompts=("{} texture.",),
        n_classes=47,
        n_train=2820,
        n_val=1128,
        n_test=1692,
    ),
    "eurosat": Catalogued(
        folder="eurosat",
        images="2750",
        split="split_zhou_EuroSAT.json",
        prompts=("a centered satellite photo of {}.",),
        n_classes=10,
        n_train=13500,
        n_val=5400,
        n_test=8100,
    ),
    "ucf101": Catalogued(
        folder="ucf101",
        images="UCF-101-midframes",
        split="split_zhou_UCF101.json",
        prompts=("a photo of a person doing {}.",),
        n_classes=101,
        n_train=7639,
        n_val=1898,
        n_test=3783,
    ),
    "imagenet": Catalogued(
        folder="imagenet",
        images="images",
        split=None,
        prompts=IMAGENET_SELECTED,
        n_classes=1000,
        n_train=1281167,
        n_val=0,
        n_test=50000,
        pool=100000,
    ),
}
"""Sizes as published with CoOp (Zhou et al. 2022, Table 1 of the appendix)."""
