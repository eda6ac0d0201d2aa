"""The language: what a flow, a step and a trigger are."""
