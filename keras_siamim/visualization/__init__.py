"""Figures: functions from arrays to images."""
