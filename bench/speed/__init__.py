"""Claims about speed, each measured against the plain way in the same run."""
