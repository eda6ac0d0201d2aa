"""Triggers of ``schedule``: at times of a cron expression, or at an interval."""
