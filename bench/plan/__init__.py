"""The cost of a grid, from names and sizes alone: what it does, how long that takes at given rates, what it holds."""
