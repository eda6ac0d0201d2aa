"""Bases of the models of requests and answers."""

from pydantic import BaseModel, ConfigDict


class In(BaseModel):
    """Base of what requests hold: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Out(BaseModel):
    """Base of what answers give."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
