"""What is wrong with one file, column by column."""

import re
from collections import Counter
from datetime import date


def main(file, rules, files):
    name, wanted = file["name"], rules.get(file["name"])
    if wanted is None:
        return {"file": name, "rows": None, "problems": [f"{name}: there are no rules for it"], "notes": []}
    try:
        sheet = tools.open_resource(sourceKind="file", sourceId=file["id"])
    except Exception as problem:
        # A broken file is a finding, and the other files are looked at all the same.
        if getattr(problem, "code", None) != "unreadable_file":
            raise
        return {"file": name, "rows": None, "problems": [str(problem)], "notes": []}

    problems, notes = [], []
    if sheet["totalRows"] < wanted.get("rows", 0):
        problems.append(f"it has {sheet['totalRows']} rows, at least {wanted['rows']} are expected")
    for column, rule in wanted["columns"].items():
        if column in sheet["columns"]:
            wrong, allowed = look_at(column, rule, sheet["rows"], files)
            problems += wrong
            notes += allowed
        else:
            problems.append(f"{column}: the column is missing")
    unasked = [column for column in sheet["columns"] if column not in wanted["columns"]]
    if unasked:
        notes.append(f"no rules for {', '.join(unasked)}")
    return {
        "file": name,
        "rows": sheet["totalRows"],
        "problems": [f"{name}, {problem}" for problem in problems],
        "notes": [f"{name}, {note}" for note in notes],
    }


def look_at(column, rule, rows, files):
    problems, notes = [], []
    # Rows are counted as a spreadsheet does: the first one is the heading.
    cells = {number: row[column] for number, row in enumerate(rows, 2) if row[column] is not None}
    empty = [number for number in range(2, len(rows) + 2) if number not in cells]
    if len(empty) > rule.get("empty", 0) * len(rows):
        problems.append(f"{column}: empty in {len(empty)} of {len(rows)} rows ({places(empty)})")
    elif empty:
        notes.append(f"{column}: empty in {len(empty)} of {len(rows)} rows, as the rules allow")
    for what, wrong in broken(rule, cells, files).items():
        problems.append(f"{column}: {len(wrong)} {what} ({places(wrong, cells)})")
    return problems, notes


def broken(rule, cells, files):
    """The rows that break each part of a rule, by what is wrong with them."""
    found = {}
    if rule.get("unique"):
        times = Counter(cells.values())
        found["not unique"] = [number for number, cell in cells.items() if times[cell] > 1]
    if rule.get("date"):
        found["not a date"] = [number for number, cell in cells.items() if not is_date(cell)]
    if "matches" in rule:
        pattern = re.compile(rule["matches"])
        found[f"not like {rule['matches']}"] = [n for n, cell in cells.items() if not pattern.fullmatch(str(cell))]
    if "one_of" in rule:
        found[f"not one of {', '.join(map(str, rule['one_of']))}"] = [
            number for number, cell in cells.items() if cell not in rule["one_of"]
        ]
    if "at_least" in rule or "at_most" in rule:
        numbers = {number: cell for number, cell in cells.items() if isinstance(cell, (int, float))}
        found["not a number"] = [number for number in cells if number not in numbers]
        low, high = rule.get("at_least", float("-inf")), rule.get("at_most", float("inf"))
        found[f"less than {low}"] = [number for number, cell in numbers.items() if cell < low]
        found[f"more than {high}"] = [number for number, cell in numbers.items() if cell > high]
    if "in" in rule:
        other, _, column = rule["in"].rpartition(".")
        there = values_of(other, column, files)
        if there is not None:
            found[f"not in {rule['in']}"] = [number for number, cell in cells.items() if cell not in there]
    return {what: numbers for what, numbers in found.items() if numbers}


def values_of(name, column, files):
    """All values of a column of another file; None where that is missing or broken, which is a finding of its own."""
    for file in files:
        if file["name"] == name:
            try:
                rows = tools.open_resource(sourceKind="file", sourceId=file["id"], columns=[column])["rows"]
            except Exception:
                return None
            return {row[column] for row in rows}
    return None


def is_date(cell):
    try:
        date.fromisoformat(str(cell))
    except ValueError:
        return False
    return True


def places(numbers, cells=None):
    shown = [f"row {number}" + (f": {cells[number]}" if cells else "") for number in numbers[:3]]
    return ", ".join(shown) + (", …" if len(numbers) > 3 else "")
