"""Networks of timm and open_clip by name, and the files of their weights."""
