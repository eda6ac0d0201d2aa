"""The document of a policy: what it takes, what is wrong with it and where, and what it means for steps."""

import pytest

from engine.workspace_policy import DEFAULT, InvalidPolicyError, InvalidPolicyTextError, as_text, parse, read
from flows.contracts import Isolation
from flows.model import StepConfig
from flows.values import Json
from steps.ceilings import NO_CEILINGS, Ceilings
from steps.code import JavaScriptStep, PythonStep, ShellStep
from steps.image import ImageStep
from steps.subflow import SubflowStep

FULL = """\
limits:
  timeout: 5m
  memory: 1GB
  cpu: 2
  pids: 128
  disk: 256MB
  output: 2MB
  code: 50KB
  result: 500kB
  artifacts: 10MB
  requests: 20
  transfer: 50MB
  tool_calls: 10
min_isolation: container
networks: [none, allow]
denied_domains: [example.net, "ads-*.example.com"]
internal: ["db.internal:5432", "[fd00::1]:80"]
images: ["python:3.12*", "registry.example.com/team/**"]
approve_tools: [http.request, "workspace.delete_*"]
concurrent_code: 3
"""


def test_every_key_is_taken_with_its_units() -> None:
    ceilings = parse(read(FULL, path="policy.yaml")).ceilings()
    assert ceilings.limits == {
        "timeout": 300.0,
        "memory": 1_000_000_000,
        "cpu": 2.0,
        "pids": 128,
        "disk": 256_000_000,
        "output": 2_000_000,
        "code": 50_000,
        "result": 500_000,
        "artifacts": 10_000_000,
        "requests": 20,
        "transfer": 50_000_000,
        "tool_calls": 10,
    }
    assert ceilings.min_isolation == "container"
    assert ceilings.networks == {"none", "allow"}
    assert sorted(map(str, ceilings.internal)) == ["[fd00::1]:80", "db.internal:5432"]


def test_text_of_a_document_is_read_as_the_same_document() -> None:
    document = read(FULL, path="policy.yaml")
    assert read(as_text(document), path="again.yaml") == document
    assert read(as_text({}), path="empty.yaml") == {}


def test_nothing_said_allows_all() -> None:
    assert parse({}) == DEFAULT
    assert DEFAULT.ceilings() == NO_CEILINGS
    assert DEFAULT.concurrent_code == 10


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("limits: {memoryy: 1GB}", "1:10", "did you mean `memory`?"),
        ("concurent_code: 3", "1:1", "did you mean `concurrent_code`?"),
        ("limits:\n  timeout: 5 minutes", "2:12", "must be a duration"),
        ("limits: {timeout: 0s}", "1:19", "more than 0"),
        ("limits: {memory: 1MB}", "1:18", "at least 16000000"),
        ("limits: {pids: many}", "1:16", "a whole number"),
        ("min_isolation: containr", "1:16", "did you mean `container`?"),
        ("networks: [all]", "1:12", "must be one of"),
        ("denied_domains: [ok.example, 'https://x.example']", "1:30", "write only the name"),
        ("internal: ['*.internal:80']", "1:12", "patterns aren't possible"),
        ("internal: [db.internal]", "1:12", "no host:port pair"),
        ("images: ['x@sha256:1']", "1:10", "64 hexadecimal digits"),
        ("approve_tools: ['a b']", "1:17", "no pattern of tools"),
        ("concurrent_code: 0", "1:18", "at least 1"),
        ("a: 1\na: 2", "2:1", "already given"),
        ("[]", "1:1", "a mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, place: str, says: str) -> None:
    with pytest.raises(InvalidPolicyTextError) as caught:
        read(text, path="policy.yaml")
    assert any(str(one).startswith(f"policy.yaml:{place}:") and says in str(one) for one in caught.value.problems), [
        str(one) for one in caught.value.problems
    ]


def test_empty_text_is_no_policy() -> None:
    with pytest.raises(InvalidPolicyError, match="empty"):
        read(" \n", path="policy.yaml")


def test_document_without_text_tells_every_problem_by_its_path() -> None:
    with pytest.raises(InvalidPolicyError) as caught:
        parse({"limits": {"memory": "much"}, "images": [1]})
    assert "limits.memory: " in caught.value.message
    assert "images[0]: " in caught.value.message


def test_document_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(InvalidPolicyError, match="more than 100,000"):
        parse({"denied_domains": [f"host{number}.example" for number in range(10_000)]})


def python(**more: Json) -> PythonStep:
    return PythonStep.model_validate({"id": "s", "python": "return 1", **more})


TIGHT = Ceilings(
    limits={"timeout": 10.0, "memory": 64_000_000, "code": 20, "tool_calls": 5},
    networks=frozenset({"none"}),
    images=(),
)


@pytest.mark.parametrize(
    ("step", "path", "says"),
    [
        (python(limits={"timeout": "11s"}), ("limits", "timeout"), "limits.timeout is 11s, and the policy"),
        (python(limits={"memory": "65MB"}), ("limits", "memory"), "64MB at most"),
        (python(limits={"tool_calls": 6}), ("limits", "tool_calls"), "5 at most"),
        (python(python="return 1 + 1 + 1 + 1"), ("python",), "the code is 20B"),
        (python(network={"allow": ["api.example.com"]}), ("network",), "`allow`"),
        (python(network="full"), ("network",), "`full`"),
        (ImageStep(id="s", image="python:3.12"), ("image",), "allows: none"),
        (ImageStep(id="s", image="x", run="echo 12345678901234567890"), ("run",), "the code is 25B"),
    ],
)
def test_step_beyond_a_ceiling_is_found_at_its_place(step: StepConfig, path: tuple[str, ...], says: str) -> None:
    ceilings = Ceilings(**{**vars(TIGHT), "limits": {**TIGHT.limits, "code": 19}})
    found = [one for one in ceilings.findings(step) if one.path == path]
    assert len(found) == 1
    assert says in found[0].message
    assert "stepbox policy set" in found[0].fix


@pytest.mark.parametrize(
    "step",
    [
        python(limits={"timeout": "10s", "memory": "64MB", "tool_calls": 5}),
        python(network={"allow": []}),
        SubflowStep(id="s", flow="other"),
    ],
)
def test_step_within_the_ceilings_is_no_trouble(step: StepConfig) -> None:
    assert list(TIGHT.findings(step)) == []
    assert TIGHT.refusal(step, "jail") is None


def test_denied_domain_in_an_allowlist_is_found() -> None:
    ceilings = parse({"denied_domains": ["example.com"]}).ceilings()
    (found,) = ceilings.findings(python(network={"allow": ["ok.example.org", "api.example.com:8443"]}))
    assert found.path == ("network", "allow", 1)


@pytest.mark.parametrize(("isolation", "refused"), [("jail", True), ("container", False), (None, False)])
def test_weaker_isolation_is_refused(isolation: Isolation | None, *, refused: bool) -> None:
    refusal = parse({"min_isolation": "container"}).ceilings().refusal(python(), isolation)
    assert (refusal is not None) is refused
    assert refusal is None or (refusal.exit_status, refusal.code) == (3, "refused_by_policy")


def test_step_without_limits_of_its_own_gets_no_more_than_the_ceilings() -> None:
    ceilings = Ceilings(limits={"timeout": 10.0, "memory": 200_000_000, "code": 1, "result": 1})
    step = ceilings.bounded(python(limits={"cpu": 2}))
    assert isinstance(step, PythonStep)
    assert (step.limits.timeout, step.limits.memory, step.limits.cpu) == (10.0, 200_000_000, 2)
    # What these have without saying so is below the ceiling.
    for other in (JavaScriptStep(id="s", javascript="1"), ShellStep(id="s", shell="1"), ImageStep(id="s", image="x")):
        bounded = ceilings.bounded(other)
        assert isinstance(bounded, JavaScriptStep | ShellStep | ImageStep)
        assert (bounded.limits.timeout, bounded.limits.memory) == (10.0, None)
    assert ceilings.bounded(python(limits={"timeout": "5s"})) == ceilings.bounded(python(limits={"timeout": 5}))


def test_tools_that_a_person_is_asked_for() -> None:
    ceilings = parse({"approve_tools": ["http.*", "workspace.delete_*"]}).ceilings()
    assert ceilings.asks("http.request")
    assert ceilings.asks("workspace.delete_task")
    assert not ceilings.asks("workspace.update_task")
    assert not ceilings.asks("httpx.request")
