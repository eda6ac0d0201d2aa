"""Triggers of ``event``: a CloudEvent that was sent in, or one of our own."""
