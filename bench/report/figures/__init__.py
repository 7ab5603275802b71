"""Frames to figures; each knows columns, not how a number was made."""
