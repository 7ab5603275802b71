"""Images: decoding of files to uint8, the memory-mapped cache, the geometry of views, and their rendering."""
