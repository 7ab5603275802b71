"""Images: files decoded to uint8, the memory-mapped cache, the geometry of views, and their rendering."""
