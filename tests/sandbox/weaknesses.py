"""Sandboxes with something missing: the real runner, whose jail, guest or host side lacks one thing."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steps.sandbox import jail, nsjail
from steps.sandbox.cgroups import Cgroup
from steps.sandbox.conversation import Conversation
from steps.sandbox.limits import Limits
from steps.sandbox.protocol import Job
from steps.sandbox.supervision import Course, supervise

Command = list[str]
Edit = Callable[[Command], Command]
PROC = ["--mount", "none:/proc:proc:subset=pid,hidepid=ptraceable"]


def weaken_jail(monkeypatch: pytest.MonkeyPatch, *edits: Edit) -> None:
    """Start jails by another command."""
    original = jail.command

    def command(*arguments: Any, **named: Any) -> Command:
        words = original(*arguments, **named)
        for edit in edits:
            edited = edit(words)
            assert edited != words
            words = edited
        return words

    monkeypatch.setattr(jail, "command", command)


def option(*words: str) -> Edit:
    """One more option of nsjail."""

    def edit(command: Command) -> Command:
        end = command.index("--")
        return [*command[:end], *words, *command[end:]]

    return edit


def replaced(old: list[str], new: list[str]) -> Edit:
    """Other words in place of these."""

    def edit(command: Command) -> Command:
        start = next(place for place in range(len(command)) if command[place : place + len(old)] == old)
        return [*command[:start], *new, *command[start + len(old) :]]

    return edit


def changed(pattern: str, replacement: str) -> Edit:
    return lambda command: [re.sub(pattern, replacement, word) for word in command]


def without_seccomp(command: Command) -> Command:
    start = command.index("--seccomp_string")
    return command[:start] + command[start + 2 :]


def with_environment(command: Command) -> Command:
    """The variables of this process, as they are when the jail starts, handed through."""
    variables = (f"{name}={value}" for name, value in os.environ.items())
    return ["/usr/bin/env", *variables, *option("--keep_env")(command)]


def with_descriptor(command: Command) -> Command:
    """An open file handed through."""
    return ["/bin/sh", "-c", 'exec 9< /etc/services; exec "$@"', "sh", *option("--pass_fd", "9")(command)]


def guest(folder: Path, name: str, changes: Mapping[str, str]) -> Edit:
    """The guest's file of that name with other text; ``folder`` is one that the jail's user may enter."""
    text = (jail.GUEST / name).read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return option("--bindmount_ro", f"{folder / name}:/opt/stepbox/steps/sandbox/guest/{name}")


def without_cgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsjail, "find_tree", lambda: None)


def without_limits_in_cgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cgroups whose limits are never set."""
    original = Cgroup._write

    def write(self: Cgroup, controller: str, name: str, value: object) -> None:
        if not name.startswith(("memory.", "pids.", "cpu.cfs_quota", "cpu.max")):
            original(self, controller, name, value)

    monkeypatch.setattr(Cgroup, "_write", write)


def with_a_careless_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a timeout, that keeps all output, takes any result and makes every tool call."""

    async def wait(said: Conversation, limits: Limits, **watched: Any) -> Course:
        return await supervise(said, replace(limits, timeout=10**6), **watched)

    original = Conversation.__init__

    def make(self: Conversation, reader: Any, writer: Any, job: Job, host: Any) -> None:
        limits = replace(job.limits, result=10**7, tool_calls=10**4, output=10**7)
        tools = (*job.tools, "doctor.other") if job.tools == ("doctor.look",) else job.tools
        original(self, reader, writer, replace(job, limits=limits, tools=tools), host)

    monkeypatch.setattr(nsjail, "supervise", wait)
    monkeypatch.setattr(Conversation, "__init__", make)
