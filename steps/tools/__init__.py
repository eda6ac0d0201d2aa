"""The tool catalogue and its first tools."""
