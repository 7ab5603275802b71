"""Trials with their objects: the inputs of each, how to compute them, and how its rounds become rows."""
