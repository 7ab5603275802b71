"""Networks of timm and open_clip by name, and where their weights are."""
