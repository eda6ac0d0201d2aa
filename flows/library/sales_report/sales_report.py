"""The figures of one month, and a report of them in Markdown."""

import sys

import pandas as pd

COLUMNS = ["order_id", "date", "region", "product", "units", "unit_price", "discount"]
NUMBERS = ["units", "unit_price", "discount"]


def main(file, month, top):
    # Only the columns that are needed: what a tool gives is limited to 1 MB.
    sheet = tools.open_resource(sourceKind="file", sourceId=file, columns=COLUMNS)
    if not sheet["rows"]:
        sys.exit(f"{sheet['name']} has no rows")
    lines = checked(pd.DataFrame(sheet["rows"], columns=COLUMNS), sheet["name"])
    # Each line is rounded to cents, as on an invoice, so that the totals are sums of what was paid.
    lines["revenue"] = (lines["units"] * lines["unit_price"] * (1 - lines["discount"])).round(2)
    lines["month"] = lines["date"].dt.to_period("M")

    this = lines["month"].max() if month is None else pd.Period(month)
    sold, sold_before = lines[lines["month"] == this], lines[lines["month"] == this - 1]
    if sold.empty:
        first, last = lines["month"].min(), lines["month"].max()
        sys.exit(f"{sheet['name']} has no sales in {this}; it goes from {first} to {last}")
    revenue, before = sold["revenue"].sum(), sold_before["revenue"].sum()
    orders = sold["order_id"].nunique()
    regions = sold.groupby("region")["revenue"].sum().sort_values(ascending=False)
    regions_before = sold_before.groupby("region")["revenue"].sum()
    products = sold.groupby("product").agg(units=("units", "sum"), revenue=("revenue", "sum"))
    products = products.sort_values("revenue", ascending=False).head(top)

    by_region = table(
        ["region", f"{this:%B}", f"{this - 1:%B}", "change"],
        *(
            [name, money(value), money(regions_before.get(name, 0)), percent(value, regions_before.get(name, 0))]
            for name, value in regions.items()
        ),
        ["**all**", money(revenue), money(before), percent(revenue, before)],
    )
    by_product = table(
        ["product", "units", "revenue", "share"],
        *(
            [name, units, money(value), f"{100 * value / revenue:.1f} %"]
            for name, units, value in products.itertuples()
        ),
    )
    print(f"{this:%B %Y}: {orders} orders, {len(sold)} lines\n{by_region}\n\n{by_product}")
    return {
        "month": str(this),
        "revenue": round(revenue, 2),
        "change_percent": change(revenue, before),
        "orders": orders,
        "average_order": round(revenue / orders, 2),
        "best_region": regions.index[0],
        "report": f"# Sales in {this:%B %Y}\n\n{orders} orders of {money(revenue / orders)} on average.\n\n"
        f"{by_region}\n\n## Best products\n\n{by_product}\n",
    }


def checked(lines, name):
    """The lines with numbers and dates; one cell that is neither stops the report: a total without it is wrong."""
    read = {column: pd.to_numeric(lines[column], errors="coerce") for column in NUMBERS}
    read["date"] = pd.to_datetime(lines["date"], format="%Y-%m-%d", errors="coerce")
    wrong = [
        (index, f"row {index + 2}: {column} is {lines[column][index]!r}")
        for column, values in read.items()
        for index in values.index[values.isna()]
    ]
    if wrong:
        shown = "; ".join(message for _, message in sorted(wrong)[:5])
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        sys.exit(f"{name} can't be used: {shown}{more}")
    return lines.assign(**read)


def change(value, before):
    return round(100 * (value / before - 1), 1) if before > 0 else None


def percent(value, before):
    return "new" if before <= 0 else f"{change(value, before):+.1f} %"


def money(value):
    return f"{value:,.2f}"


def table(header, *rows):
    """A Markdown table that is as easy to read in a terminal: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    ruler = " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(f"| {line} |" for line in (lines[0], ruler, *lines[1:]))
