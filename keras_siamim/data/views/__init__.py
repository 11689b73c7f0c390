"""Augmented views of an image, in pairs, and their relative geometry."""
