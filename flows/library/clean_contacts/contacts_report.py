"""The report on a cleaned list as a page that needs nothing else: report.html."""

from html import escape
from pathlib import Path

import pandas as pd

STYLE = (
    "body{font:16px sans-serif;max-width:60em;margin:2em auto}table{border-collapse:collapse}td,th{padding:.2em .8em}"
)


def table(path):
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    head = "".join(f"<th>{escape(column)}</th>" for column in rows.columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows.itertuples(index=False)
    )
    return f"<table><tr>{head}</tr>{body}</table>" if len(rows) else "<p>None.</p>"


def main(counts):
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Contacts</title><style>{STYLE}</style>
<h1>Contacts</h1>
<p>{counts["usable"]} of {counts["rows"]} rows are usable, after {counts["changes"]} changes.</p>
<h2>Rejected</h2>
{table("clean/rejected.csv")}
<h2>Changed</h2>
{table("clean/changes.csv")}
</html>
"""
    Path("artifacts/report.html").write_text(page, encoding="utf-8")
