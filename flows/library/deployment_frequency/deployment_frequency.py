"""Deployment frequency, lead time, failure rate and time to restore of each service.

The rhythm follows Google's Four Keys project: daily where half of the weeks have at least three days with a successful
deployment, weekly where half of them have one.
"""

import sys
from collections import defaultdict
from datetime import date, datetime, timedelta
from statistics import median

FIELDS = ["id", "service", "environment", "committed_at", "deployed_at", "outcome", "restored_at"]
BARS = " ▁▂▃▄▅▆▇█"


def main(file, environment, weeks, until):
    sheet = tools.open_resource(sourceKind="file", sourceId=file, columns=FIELDS)
    deployments = [read(row) for row in sheet["rows"] if row["environment"] == environment]
    if not deployments:
        found = sorted({row["environment"] for row in sheet["rows"]})
        sys.exit(f"{sheet['name']} has no deployments to {environment}; it has {', '.join(found) or 'nothing'}")
    last = date.fromisoformat(until) if until else max(one["deployed"].date() for one in deployments)
    monday = last - timedelta(days=last.weekday(), weeks=weeks - 1)
    mondays = [monday + timedelta(weeks=number) for number in range(weeks)]

    by_service = defaultdict(list)
    for one in deployments:
        if monday <= one["deployed"].date() < monday + timedelta(weeks=weeks):
            by_service[one["service"]].append(one)
    if not by_service:
        sys.exit(f"there are no deployments to {environment} in the {weeks} weeks from {monday}")
    services = {name: measure(found, mondays) for name, found in sorted(by_service.items())}

    most = max(max(one["weekly"]) for one in services.values())
    rows = [
        [
            name,
            one["rhythm"],
            "".join(BARS[-(-8 * count // most)] for count in one["weekly"]),
            one["per_week"],
            hours(one["lead_time_hours"]),
            f"{one['failure_percent']} %",
            hours(one["restore_hours"]),
        ]
        for name, one in services.items()
    ]
    overview = table(["service", "rhythm", f"{weeks} weeks", "a week", "lead time", "failed", "restored in"], *rows)
    title = f"Deployments to {environment}, {monday} to {mondays[-1] + timedelta(days=6)}"
    print(f"{title}\n{overview}")
    return {
        "deployments": sum(one["deployments"] for one in services.values()),
        "rhythm": {name: one["rhythm"] for name, one in services.items()},
        "services": services,
        "report": f"# {title}\n\n{overview}\n\nLead time and time to restore are medians.\n",
        "weeks_csv": "\n".join(
            [
                ",".join(["week", *services]),
                *(
                    ",".join([str(day), *(str(one["weekly"][number]) for one in services.values())])
                    for number, day in enumerate(mondays)
                ),
            ]
        )
        + "\n",
    }


def read(row):
    """One deployment with its times; what can't be stops the statistics."""
    try:
        one = {name: row[f"{name}_at"] and datetime.fromisoformat(row[f"{name}_at"]) for name in TIMES}
        if one["committed"] > one["deployed"]:
            sys.exit(f"{row['id']} was deployed before it was committed")
    except (TypeError, ValueError) as problem:
        sys.exit(f"{row['id']} has a time that can't be read: {problem}")
    return {**one, "service": row["service"], "failed": row["outcome"] != "succeeded"}


TIMES = ["committed", "deployed", "restored"]


def measure(found, mondays):
    succeeded = [one["deployed"].date() for one in found if not one["failed"]]
    restored = [one["restored"] - one["deployed"] for one in found if one["restored"]]
    weeks = [[day for day in succeeded if monday <= day < monday + timedelta(weeks=1)] for monday in mondays]
    days_a_week = median(len(set(days)) for days in weeks)
    return {
        "rhythm": "daily" if days_a_week >= 3 else "weekly" if days_a_week >= 1 else "less",
        "deployments": len(found),
        "per_week": round(len(succeeded) / len(mondays), 1),
        "weekly": list(map(len, weeks)),
        "lead_time_hours": round(median((one["deployed"] - one["committed"]) / timedelta(hours=1) for one in found), 1),
        "failure_percent": round(100 * sum(one["failed"] for one in found) / len(found), 1),
        "restore_hours": round(median(time / timedelta(hours=1) for time in restored), 1) if restored else None,
    }


def hours(number):
    return "–" if number is None else f"{number:g} h" if number < 48 else f"{number / 24:.1f} d"


def table(header, *rows):
    """A Markdown table that is as easy to read in a terminal: the first three columns to the left."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    align = [str.ljust] * 3 + [str.rjust] * (len(header) - 3)
    ruler = [
        "-" * width if to is str.ljust else "-" * (width - 1) + ":" for to, width in zip(align, widths, strict=True)
    ]
    lines = [[to(cell, width) for to, cell, width in zip(align, row, widths, strict=True)] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ruler, *lines[1:]))
