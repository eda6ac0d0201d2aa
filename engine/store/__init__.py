"""The SQLModel store, over SQLite and PostgreSQL."""
