"""How good a representation is."""
