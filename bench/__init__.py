"""The grid of active-learning runs: specs, trials, the store of rows, Ray Tune, statistics and reports."""
