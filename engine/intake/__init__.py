"""From events to runs: what comes in is kept with a delivery for each trigger, and each delivery ends with a reason."""
