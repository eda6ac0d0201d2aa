"""Flows as Prefect flows, steps as Prefect tasks: the only place that knows Prefect."""
