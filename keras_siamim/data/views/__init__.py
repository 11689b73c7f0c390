"""Pairs of augmented views of an image, and their geometry."""
