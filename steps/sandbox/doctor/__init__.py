"""Proves what a runner guarantees, by real code that tries to break it in real sandboxes."""
