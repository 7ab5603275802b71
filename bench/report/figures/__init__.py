"""Frames to figures; each module reads columns of a frame and computes no statistic."""
