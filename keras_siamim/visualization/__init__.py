"""Figures: functions from arrays to PIL images."""
