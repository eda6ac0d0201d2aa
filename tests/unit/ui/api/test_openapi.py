"""The OpenAPI document is complete: examples that hold, headers, problems; and every use case of the service is in it."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from engine.service import Service, Serving
from flows.values import Json
from ui.api.app import create_app
from ui.api.examples import EXAMPLES

DOCUMENT: dict[str, Any] = create_app(cast("Serving", None), max_body=1).openapi()

ROUTES: Mapping[str, str] = {
    "abandoned": "listAbandonedRuns",
    "apply": "applyFlows",
    "approvals": "listApprovals",
    "approval": "getApproval",
    "approval_link": "linkApproval",
    "revoke_approval": "revokeApproval",
    "artifact": "describeArtifact",
    "cancel": "cancelRun",
    "create_principal": "createPrincipal",
    "create_token": "createToken",
    "create_workspace": "createWorkspace",
    "decide": "approve",
    "definition": "getFlow",
    "definition_of": "getRunFlow",
    "delete_flow": "deleteFlow",
    "delete_principal": "deletePrincipal",
    "delete_secret": "deleteSecret",
    "delete_workspace": "deleteWorkspace",
    "enable_flow": "enableFlow",
    "enable_principal": "enablePrincipal",
    "event": "getEvent",
    "events": "listEvents",
    "execute": "execute",
    "fetch_artifacts": "getArtifact",
    "flow": "getFlow",
    "flow_version": "getFlowVersion",
    "audit": "listAudit",
    "export_audit": "exportAudit",
    "verify_audit": "verifyAudit",
    "flow_versions": "listFlowVersions",
    "flows": "listFlows",
    "follow": "followRun",
    "grant": "grantPrincipal",
    "have_resumed": "resumeRun",
    "load": "validateFlow",
    "principal": "getPrincipal",
    "principals": "listPrincipals",
    "prune": "prune",
    "redrive": "redriveEvent",
    "policy": "getPolicy",
    "policy_version": "getPolicyVersion",
    "policy_versions": "listPolicyVersions",
    "redrive_flow": "redriveFlow",
    "resume": "resumeRun",
    "retry": "retryRun",
    "revoke_token": "revokeToken",
    "run": "startTrial",
    "run_artifacts": "listArtifacts",
    "run_attempts": "listAttempts",
    "run_calls": "listToolCalls",
    "run_egress": "listEgress",
    "run_flow": "getRunFlow",
    "run_known": "startRun",
    "run_logs": "listLines",
    "run_report": "getRun",
    "runs": "listRuns",
    "secrets": "listSecrets",
    "set_policy": "setPolicy",
    "set_role": "setRole",
    "set_secret": "setSecret",
    "rotate_secret": "rotateSecret",
    "rotate_secret_key": "rotateSecretKey",
    "start": "startRun",
    "start_retry": "retryRun",
    "tokens": "listTokens",
    "ungrant": "revokeGrants",
    "upcoming": "listUpcoming",
    "wait": "startRun",
    "workspaces": "listWorkspaces",
}
"""By use case, an operation that does it."""
NO_ROUTE = {
    "diagnose": "it is about the machine on which it is done",
    "rekey_audit": "the key is on the machine of the service",
    "release_artifacts": "what was fetched lies on the caller's machine",
}


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_use_case_has_an_operation_or_a_reason_why_not() -> None:
    cases = {name for name in dir(Service) if not name.startswith("_")}
    assert cases == {*ROUTES, *NO_ROUTE}
    assert set(ROUTES.values()) <= {operation["operationId"] for _, operation in operations()}


@pytest.mark.parametrize(("name", "example"), EXAMPLES.items())
def test_every_example_is_what_its_schema_says(name: str, example: Json) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(example)


def test_everything_that_is_sent_has_an_example() -> None:
    for name, operation in operations():
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                schema = content.get("schema", {})
                assert "$ref" not in schema or "ProblemOut" in schema["$ref"] or "example" in content, name
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert "example" in content, name
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            assert {"example", "examples"} & {*parameter, *schema} or "default" in schema, (name, parameter["name"])
            given = [*schema.get("examples", ()), *([parameter["example"]] if "example" in parameter else ())]
            for example in given:
                Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(example)


def test_every_answer_has_its_headers() -> None:
    for name, operation in operations():
        for status, response in operation["responses"].items():
            assert "X-Request-ID" in response["headers"], name
            assert status != "401" or "WWW-Authenticate" in response["headers"], name
            assert status != "503" or "Retry-After" in response["headers"], name


def test_every_listing_comes_in_pages() -> None:
    whole = {"redriveEvent", "redriveFlow", "listUpcoming", "verifyAudit"}
    for name, operation in operations():
        schemas = [
            content["schema"].get("$ref", "")
            for response in operation["responses"].values()
            for content in response.get("content", {}).values()
            if "schema" in content
        ]
        if any("PageOut_" in schema for schema in schemas) and operation["operationId"] not in whole:
            assert {"limit", "cursor"} <= {each["name"] for each in operation["parameters"]}, name
