"""Trials with their objects: what each reads, how that is computed, and how its rounds become rows."""
