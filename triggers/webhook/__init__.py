"""Triggers of ``webhook``: an HTTP request to ``/hooks/<path>``."""
