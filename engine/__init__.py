"""What drives it: the orchestrator, the store, runs and the composition root."""
