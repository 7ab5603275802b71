"""One active-learning run with knowledge distillation from a vision-language teacher."""

__version__ = "0.3.0"
