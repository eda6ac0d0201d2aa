"""Triggers of ``file``: a file that appears or changes in a directory."""
