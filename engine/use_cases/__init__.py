"""The use cases of :class:`engine.service.Service` on this machine's own installation, by noun."""
