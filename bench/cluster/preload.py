"""Imported by each process of a local Ray before its first task: what a trial needs, where it is one of the trials."""

import importlib
import os

from bench.cluster import TRIAL_VARIABLE

if TRIAL_VARIABLE in os.environ:
    importlib.import_module("bench.cluster.running")
