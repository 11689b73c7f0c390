"""Decoding of image files, detection of plain files by their headers, and preprocessing."""
