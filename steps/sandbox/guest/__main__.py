"""Starts the supervisor: a module of its own, so that its compiled form is used."""

import sys

# The packages above the guest have nothing in a sandbox: looking for them would cost more than the guest's own modules.
for name in ("steps", "steps.sandbox", "steps.sandbox.guest"):
    package = type(sys)(name)
    package.__path__ = ["/opt/stepbox/" + name.replace(".", "/")]
    sys.modules[name] = package

from steps.sandbox.guest import supervisor  # noqa: E402 - found by what is above

supervisor.start()
