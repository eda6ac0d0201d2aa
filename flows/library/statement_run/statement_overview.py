"""All statements in one table; a customer whose statement could not be written has a row as well."""


def main(accounts, statements):
    done = [(account["customer"], one) for account, one in zip(accounts, statements, strict=True) if one]
    failed = [account["customer"] for account, one in zip(accounts, statements, strict=True) if not one]
    done.sort(key=lambda pair: -pair[1]["overdue"])
    width = max(map(len, [*(account["customer"] for account in accounts), "customer"]))
    lines = [f"| {'customer':{width}} |      open |   overdue |", f"| {'-' * width} | --------: | --------: |"]
    lines += [f"| {customer:{width}} | {one['open']:9,.2f} | {one['overdue']:9,.2f} |" for customer, one in done]
    lines += [f"| {customer:{width}} |    failed |           |" for customer in failed]
    table = "\n".join(lines)
    print(table)
    tools.update_doc(docId="statements", name="Statements", content=f"# Statements\n\n{table}\n", createIfMissing=True)
    return {
        "overview": "statements",
        "statements": [one["document"] for _, one in done],
        "open": round(sum(one["open"] for _, one in done), 2),
        "overdue": round(sum(one["overdue"] for _, one in done), 2),
        "failed": failed,
    }
