"""Runs that survive: one folder each, with what they are, how they went, and what they need to go on."""
