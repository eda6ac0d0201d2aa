"""What to go on with: the answer, or the last good one where the service stayed down."""

import json
import sys
from datetime import UTC, datetime


def main(answer, error, keep):
    if answer is None:
        return last_good(error["message"], keep)
    if answer["status"] >= 400:
        sys.exit(f"{answer['url']} answered {answer['status']}, which no further attempt would change")
    if "json" not in answer:
        sys.exit(f"{answer['url']} answered no JSON")
    kept = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "from": answer["url"], "body": answer["json"]}
    tools.update_doc(docId=keep, name="Last good answer", content=json.dumps(kept), createIfMissing=True)
    return {**kept, "fresh": True}


def last_good(why, keep):
    try:
        opened = tools.open_resource(sourceKind="doc", sourceId=keep)
    except Exception as problem:
        if getattr(problem, "code", None) != "not_found":
            raise
        sys.exit(f"the service stayed down, and there is no earlier answer to go on with: {why}")
    kept = json.loads(opened["content"])
    print(f"the service stayed down ({why}); going on with the answer of {kept['at']}")
    return {**kept, "fresh": False}
