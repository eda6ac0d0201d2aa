"""Flows as Prefect flows, steps as Prefect tasks: the only place that knows Prefect.

``environment`` is imported first and prepares prefect's settings; ``prefect_gears`` then imports prefect (1.4 to
2.6 s), so import that only to run a flow.
"""
