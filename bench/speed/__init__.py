"""What the suite promises about speed, each promise measured on this machine."""
