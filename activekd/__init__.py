"""One active-learning run with knowledge distillation from a vision-language teacher.

``run`` measures a learning curve, ``Learner`` asks a person for labels. Names are imported on first use, so that
``import activekd`` loads neither torch nor another large library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from activekd.arguments import FeatureTeacher, clap, lp_plus_plus, tip_adapter, transclip, zeroshot
    from activekd.defaults import RECIPES, VIEWS
    from activekd.errors import InputError
    from activekd.learner import Learner
    from activekd.pool import UNLABELED, Pool
    from activekd.predictor import Predictor
    from activekd.recipes import ClapRecipe, Recipe, ViewGeometry
    from activekd.rounds import Round
    from activekd.running import Run, run
    from activekd.selectors import SELECTORS, Selector, check, selector
    from activekd.selectors.view import PoolView

__version__ = "0.3.0"

__all__ = [
    "RECIPES",
    "SELECTORS",
    "UNLABELED",
    "VIEWS",
    "ClapRecipe",
    "FeatureTeacher",
    "InputError",
    "Learner",
    "Pool",
    "PoolView",
    "Predictor",
    "Recipe",
    "Round",
    "Run",
    "Selector",
    "ViewGeometry",
    "check",
    "clap",
    "lp_plus_plus",
    "run",
    "selector",
    "tip_adapter",
    "transclip",
    "zeroshot",
]

_HOMES = {
    "activekd.arguments": ("FeatureTeacher", "clap", "lp_plus_plus", "tip_adapter", "transclip", "zeroshot"),
    "activekd.defaults": ("RECIPES", "VIEWS"),
    "activekd.errors": ("InputError",),
    "activekd.learner": ("Learner",),
    "activekd.pool": ("UNLABELED", "Pool"),
    "activekd.predictor": ("Predictor",),
    "activekd.recipes": ("ClapRecipe", "Recipe", "ViewGeometry"),
    "activekd.rounds": ("Round",),
    "activekd.running": ("Run", "run"),
    "activekd.selectors": ("SELECTORS", "Selector", "check", "selector"),
    "activekd.selectors.view": ("PoolView",),
}
"""The module of each public name."""

_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'activekd' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
