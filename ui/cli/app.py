"""The table of commands."""

import typer

from ui.cli import (
    approvals,
    audit,
    doctor,
    events,
    execute,
    flows,
    images,
    init,
    policy,
    principals,
    run,
    runs,
    schema,
    secrets,
    serve,
    tokens,
    validate,
    workspaces,
)
from ui.cli.options import common

app = typer.Typer(
    name="stepbox",
    help="Automations in YAML, whose every code step runs in its own single-use sandbox.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(common)
app.command("init")(init.init)
app.command("validate")(validate.validate)
app.command("run")(run.run)
app.command("exec")(execute.execute)
app.command("serve")(serve.serve)
app.add_typer(flows.app, name="flows")
app.add_typer(runs.app, name="runs")
app.add_typer(events.app, name="events")
app.add_typer(approvals.app, name="approvals")
app.command("approve")(approvals.approve)
app.command("reject")(approvals.reject)
app.add_typer(secrets.app, name="secrets")
app.add_typer(tokens.app, name="tokens")
app.add_typer(policy.app, name="policy")
app.add_typer(principals.app, name="principals")
app.add_typer(workspaces.app, name="workspaces")
app.add_typer(audit.app, name="audit")
app.add_typer(images.app, name="images")
app.command("schema")(schema.schema)
app.command("doctor")(doctor.doctor)
