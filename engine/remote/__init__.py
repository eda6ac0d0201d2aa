"""A service elsewhere, over its HTTP API (``STEPBOX_URL``)."""
