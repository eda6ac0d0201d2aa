"""The rules as data, checked themselves: a misspelt rule would never find anything."""

import sys

import yaml

KNOWN = {"unique", "empty", "date", "matches", "one_of", "at_least", "at_most", "in"}


def main(file):
    opened = tools.open_resource(sourceKind="file", sourceId=file)
    try:
        rules = yaml.safe_load(opened["content"]) or {}
    except yaml.YAMLError as problem:
        sys.exit(f"{opened['name']} is not YAML: {problem}")
    for name, of_file in rules.items():
        for column, of_column in of_file["columns"].items():
            unknown = sorted(set(of_column) - KNOWN)
            if unknown:
                there_are = ", ".join(sorted(KNOWN))
                sys.exit(f"{opened['name']}: {name}, {column}: there is no rule {unknown[0]}; there are {there_are}")
    return rules
