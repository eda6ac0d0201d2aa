"""What a test suite came to, from the JUnit XML that pytest, Jest, Go and most others write."""

from xml.etree import ElementTree as ET


def main(junit: str, slowest: int) -> dict:
    cases = [read(case) for case in ET.fromstring(junit).iter("testcase")]  # noqa: S314 - in a sandbox
    failed = [case for case in cases if case["outcome"] == "failed"]
    skipped = sum(case["outcome"] == "skipped" for case in cases)
    passed = len(cases) - len(failed) - skipped
    print(f"{passed} passed, {len(failed)} failed, {skipped} skipped")
    return {
        "tests": len(cases),
        "passed": passed,
        "skipped": skipped,
        "failures": [case["name"] for case in failed],
        "report": "\n".join(report(cases, failed, slowest)),
    }


def read(case: ET.Element) -> dict:
    wrong = next((part for part in case if part.tag in ("failure", "error")), None)
    outcome = "failed" if wrong is not None else "skipped" if case.find("skipped") is not None else "passed"
    return {
        "name": f"{case.get('classname', '')}.{case.get('name', '')}".strip("."),
        "seconds": float(case.get("time") or 0),
        "outcome": outcome,
        "why": "" if wrong is None else (wrong.get("message") or wrong.text or "").strip(),
    }


def report(cases: list, failed: list, slowest: int) -> list:
    lines = ["# Tests", "", f"{len(cases) - len(failed)} of {len(cases)} without a failure.", ""]
    for case in failed:
        lines += [f"## {case['name']}", "", *(f"    {line}" for line in case["why"].splitlines()), ""]
    ranked = sorted(cases, key=lambda case: -case["seconds"])[:slowest]
    if ranked:
        lines += ["## Slowest", "", *(f"- {case['name']}: {case['seconds']:.2f} s" for case in ranked), ""]
    return lines
