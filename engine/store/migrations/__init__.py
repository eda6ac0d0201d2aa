"""The schema's history, one module a revision. A new one is also added to engine.store.schema.REVISIONS."""
