"""HTTP requests as values, and their bodies; for the kinds whose events come by HTTP."""
