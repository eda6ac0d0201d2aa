"""What a step gives to the flow that it starts."""

from flows.definition import Definition
from flows.inputs import InvalidInputError, validate_inputs
from flows.templates import is_wired
from steps.subflow import SubflowStep


def check_given(subflow: Definition, step: SubflowStep) -> None:
    """Check what a step gives to the flow that it starts, as far as that is known before the run.

    Raises:
        InvalidInputError: an input is unknown, missing, or of the wrong type.
    """
    known = {name: schema for name, schema in subflow.flow.inputs.items() if not is_wired(step.with_.get(name))}
    literal = {name: value for name, value in step.with_.items() if not is_wired(value)}
    try:
        validate_inputs(subflow.flow.model_copy(update={"inputs": known}), literal)
    except InvalidInputError as problem:
        message = f"step '{step.id}' starts flow '{step.flow}': {problem.message}"
        raise InvalidInputError(message, fix=problem.fix) from None
