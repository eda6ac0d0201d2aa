"""The answers in one table, the wrong ones first."""


def main(plan, checks):
    if checks is None:
        rows = [[one["name"], "–", "–", f"would ask for {address(one)}"] for one in plan["requests"]]
    else:
        ordered = sorted(checks, key=lambda one: not one["problems"])
        rows = [
            [one["name"], one["status"] or "–", "–" if one["ms"] is None else f"{one['ms']} ms", verdict(one)]
            for one in ordered
        ]
    rows += [[one["name"], "–", "–", f"skipped: {one['reason']}"] for one in plan["skipped"]]
    table = markdown(["request", "status", "time", ""], *rows)
    print(table)
    failures = [f"{one['name']}: {one['problems'][0]}" for one in checks or [] if one["problems"]]
    return {
        "passed": len(checks or []) - len(failures),
        "failures": failures,
        "report": f"# API smoke test\n\n{table}\n",
    }


def verdict(one):
    return "; ".join(one["problems"]) or "as documented"


def address(one):
    query = "&".join(f"{name}={value}" for name, value in one["query"].items())
    return f"{one['path']}?{query}" if query else one["path"]


def markdown(header, *rows):
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    # The last column is as long as it is, the others are as wide as their longest cell.
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:-1]]
    ruler = ["-" * width for width in widths] + ["---"]
    lines = [[*map(str.ljust, row, widths), row[-1]] for row in (cells[0], ruler, *cells[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
