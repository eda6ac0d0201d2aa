"""Starts the supervisor: a module of its own, so that its compiled form is used."""

import sys

sys.path.insert(0, "/opt/stepbox")

from steps.sandbox.guest import supervisor

supervisor.start()
