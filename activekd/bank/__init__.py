"""Features of views: computed once, stored under a content address, read by all trials."""
