"""Objectives beside the dual-head loss: terms on unlabeled images, terms on features, strong views."""
