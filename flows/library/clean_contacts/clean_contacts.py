"""Cleans a CSV of contacts: contacts.csv has the usable ones, rejected.csv the others, changes.csv each change."""

import io
import re
import sys

import pandas as pd

COLUMNS = ["name", "email", "phone", "country", "since"]
COUNTRIES = {"de": "DE", "germany": "DE", "deutschland": "DE", "at": "AT", "austria": "AT", "ch": "CH", "schweiz": "CH"}
PREFIXES = {"DE": "+49", "AT": "+43", "CH": "+41"}
DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y")


def name(value, _row):
    text = " ".join(value.split())
    return text.title() if text.isupper() or text.islower() else text


def email(value, _row):
    return value.strip().strip("<>;").lower()


def phone(value, row):
    digits = re.sub(r"[^\d+]", "", value.replace("(0)", ""))
    if digits.startswith("00"):
        return "+" + digits[2:]
    if digits.startswith("0"):
        return PREFIXES.get(row["country"], "") + digits[1:]
    return digits


def country(value, _row):
    return COUNTRIES.get(value.strip().lower(), value.strip().upper())


def since(value, _row):
    for form in DATES:
        found = pd.to_datetime(value.strip(), format=form, errors="coerce")
        if not pd.isna(found):
            return f"{found:%Y-%m-%d}"
    return value.strip()


def reason(row):
    if not row["name"]:
        return "no name"
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]{2,}", row["email"]):
        return "no valid e-mail address"
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", row["since"]):
        return "no date"
    return None


def main(file, keep):
    content = tools.open_resource(sourceKind="file", sourceId=file)["content"]
    table = pd.read_csv(io.StringIO(content), dtype=str, keep_default_na=False)
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        sys.exit(f"the contacts have no column {missing[0]}")

    changes, usable, rejected, seen = [], [], [], {}
    # The country first, since phone numbers depend on it.
    order = {"country": country, "name": name, "email": email, "phone": phone, "since": since}
    for line, original in enumerate(table[COLUMNS].to_dict("records"), 2):
        row = dict(original)
        for column, clean in order.items():
            row[column] = clean(row[column], row)
            if row[column] != original[column]:
                changes.append({"line": line, "column": column, "from": original[column], "to": row[column]})
        why = reason(row)
        if why is None and row["email"] in seen:
            why = f"the same contact as in line {seen[row['email']]}"
        if why is None:
            seen[row["email"]] = line
            usable.append(row)
        else:
            rejected.append({"line": line, "reason": why, **original})

    if len(usable) < keep * len(table):
        sys.exit(f"only {len(usable)} of {len(table)} contacts are usable: is this the right file?")
    pd.DataFrame(usable, columns=COLUMNS).sort_values("email").to_csv("artifacts/contacts.csv", index=False)
    pd.DataFrame(rejected, columns=["line", "reason", *COLUMNS]).to_csv("artifacts/rejected.csv", index=False)
    pd.DataFrame(changes, columns=["line", "column", "from", "to"]).to_csv("artifacts/changes.csv", index=False)
    print(f"{len(usable)} contacts, {len(rejected)} rejected, {len(changes)} changes")
    return {"rows": len(table), "usable": len(usable), "rejected": len(rejected), "changes": len(changes)}
