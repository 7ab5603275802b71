"""Students: a backbone with two heads, its fits and its predictions."""
