"""Evaluation: the protocols by which a representation is judged, one file each."""
