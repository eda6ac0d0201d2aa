"""The customers who owe something, with their open invoices."""

import sys
from collections import defaultdict
from datetime import date
from decimal import Decimal


def main(file, as_of, minimum):
    sheet = tools.open_resource(sourceKind="file", sourceId=file)
    accounts, wrong = defaultdict(list), []
    for number, row in enumerate(sheet["rows"], 2):
        try:
            issued, due = date.fromisoformat(row["issued"]), date.fromisoformat(row["due"])
            # Money is counted in decimals: 0.1 + 0.2 is 0.3 here.
            still_open = Decimal(str(row["amount"])) - Decimal(str(row["paid"]))
        except (TypeError, ValueError, ArithmeticError):
            wrong.append(f"row {number}: {row.get('invoice_id')} has a date or an amount that is none")
            continue
        if issued > date.fromisoformat(as_of or "9999-12-31") or not still_open:
            continue
        account = row["customer_id"], row["customer"]
        accounts[account].append({"invoice_id": row["invoice_id"], "due": str(due), "open": float(still_open)})
    if wrong or not sheet["rows"]:
        sys.exit(f"{sheet['name']} can't be used: {'; '.join(wrong[:5]) or 'it has no rows'}")
    owing = [
        {"id": customer_id, "customer": customer, "invoices": invoices}
        for (customer_id, customer), invoices in sorted(accounts.items())
        if sum(one["open"] for one in invoices) >= minimum
    ]
    print(f"{len(owing)} of {len({row['customer_id'] for row in sheet['rows']})} customers owe {minimum:g} or more")
    return {"accounts": owing, "as_of": as_of or max(row["issued"] for row in sheet["rows"])}
