"""The container runners: one protocol, the same guest inside each."""
