"""Whether a staged price list may be published, and what it would change."""

import csv
import io
import sys
from decimal import Decimal, InvalidOperation

COLUMNS = ["sku", "name", "pack_size", "price", "currency", "valid_from"]


def main(staged, target, max_change):
    file = tools.open_resource(sourceKind="file", sourceId=staged)
    new = read(file["content"], file["name"])
    old = published(target)
    added, removed = new.keys() - old.keys(), old.keys() - new.keys()
    changed = {sku for sku in new.keys() & old.keys() if new[sku] != old[sku]}
    for sku in sorted(changed):
        print(f"{sku}: {old[sku]:.2f} → {new[sku]:.2f}")
    share = (len(changed) + len(removed)) / len(old) if old else 0
    if share > max_change:
        sys.exit(
            f"{share:.0%} of the published prices would change or go, more than {max_change:.0%}: look at it first"
        )
    return {"articles": len(new), "added": len(added), "removed": len(removed), "changed": len(changed)}


def read(text, name):
    """Prices by article; every row that is wrong is named at once."""
    reader = csv.DictReader(io.StringIO(text))
    if reader.fieldnames != COLUMNS:
        sys.exit(f"{name} has the columns {reader.fieldnames}, expected are {COLUMNS}")
    prices, wrong = {}, []
    for row in reader:
        where = f"line {reader.line_num}"
        try:
            price = Decimal(row["price"])
            if not price.is_finite() or price <= 0:
                wrong.append(f"{where}: the price {row['price']} is not above 0")
        except (InvalidOperation, TypeError):
            wrong.append(f"{where}: {row['price']!r} is no price")
            continue
        if row["sku"] in prices:
            wrong.append(f"{where}: {row['sku']} is there twice")
        prices[row["sku"]] = price
    if wrong or not prices:
        sys.exit(f"{name} can't be published: {'; '.join(wrong[:5]) or 'it has no articles'}")
    return prices


def published(target):
    """The prices that are in use; none before the first import."""
    try:
        rows = tools.open_resource(sourceKind="file", sourceId=target, columns=["sku", "price"])["rows"]
    except Exception as problem:
        if getattr(problem, "code", None) != "not_found":
            raise
        return {}
    return {row["sku"]: Decimal(str(row["price"])) for row in rows}
