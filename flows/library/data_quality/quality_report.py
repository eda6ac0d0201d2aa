"""The findings of all files."""


def main(checks, rules):
    found = {check["file"]: check for check in checks}
    for name in rules:
        if name not in found:
            found[name] = {"file": name, "rows": None, "problems": [f"{name}: the file is missing"], "notes": []}
    width = max(map(len, [*found, "file"]))
    lines = [f"| {'file':{width}} | rows | problems |", f"| {'-' * width} | ---: | -------: |"]
    lines += [
        f"| {name:{width}} | {'–' if check['rows'] is None else check['rows']:>4} | {len(check['problems']):8} |"
        for name, check in sorted(found.items())
    ]
    problems = [problem for _, check in sorted(found.items()) for problem in check["problems"]]
    notes = [note for _, check in sorted(found.items()) for note in check["notes"]]
    lines += ["", *(f"- **{problem}**" for problem in problems), *(f"- {note}" for note in notes)]
    report = "\n".join(lines).rstrip()
    print(report)
    return {
        "report": f"# Data quality\n\n{report}\n",
        "problems": problems,
        "notes": notes,
        "rows": sum(check["rows"] or 0 for check in found.values()),
    }
