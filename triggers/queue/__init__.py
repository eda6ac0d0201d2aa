"""Triggers of ``queue``: a message of a Redis stream."""
