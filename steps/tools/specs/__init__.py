"""What the built-in tools take and give, without what they need to work: cheap to import."""
