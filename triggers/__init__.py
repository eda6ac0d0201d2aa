"""What starts a run: one module a kind."""
