"""The runner that isolates by containers of a Docker Engine, local or remote."""
