"""The graph of a flow's steps: what each needs, cycles, and an order that respects both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from flows.contracts import Finding
from flows.document import Path
from flows.suggestions import instead, listing


@dataclass(frozen=True, kw_only=True)
class Node:
    """A step as the graph sees it: ``needs`` as written (None: left out); ``path`` leads to its mapping."""

    id: str
    needs: tuple[str, ...] | None
    path: Path


@dataclass(frozen=True, kw_only=True)
class Graph:
    """``needs`` with the default resolved and without what doesn't exist; ``order`` is empty where there is a cycle."""

    needs: Mapping[str, tuple[str, ...]]
    order: tuple[str, ...]
    ancestors: Mapping[str, frozenset[str]]
    """Every step that has ended before that one begins, by id; without entries for what is on a cycle."""


def build_graph(nodes: Sequence[Node]) -> tuple[Graph, list[Finding]]:
    """The graph of one list of steps, whose ids are unique, and what is wrong with it."""
    findings: list[Finding] = []
    ids = [node.id for node in nodes]
    known = frozenset(ids)
    needs: dict[str, tuple[str, ...]] = {}
    for position, node in enumerate(nodes):
        if node.needs is None:
            needs[node.id] = (ids[position - 1],) if position else ()
        else:
            needs[node.id] = tuple(_existing(node, known, findings))
    sorter = TopologicalSorter(needs)
    try:
        sorted_ids = tuple(sorter.static_order())
    except CycleError as error:
        findings.append(_cycle_finding(nodes, error.args[1][::-1]))
        return Graph(needs=needs, order=(), ancestors={}), findings
    ancestors: dict[str, frozenset[str]] = {}
    for each in sorted_ids:
        ancestors[each] = frozenset(needs[each]).union(*(ancestors[before] for before in needs[each]))
    return Graph(needs=needs, order=_text_order(ids, needs), ancestors=ancestors), findings


def _existing(node: Node, known: frozenset[str], findings: list[Finding]) -> Iterable[str]:
    seen: set[str] = set()
    for position, name in enumerate(node.needs or ()):
        path = (*node.path, "needs", position)
        if name == node.id:
            message = f"step `{node.id}` needs itself"
            findings.append(Finding(path=path, code="self_need", message=message, fix="remove it from needs"))
        elif name not in known:
            options = sorted(known - {node.id})
            fix = instead(name, options, otherwise=f"name one of {listing(options)}" if options else "remove it")
            message = f"step `{node.id}` needs `{name[:80]}`, which is no step of this list"
            findings.append(Finding(path=path, code="unknown_step", message=message, fix=fix))
        elif name in seen:
            message = f"`{name}` is already in needs"
            findings.append(Finding(path=path, code="duplicate_need", message=message, fix="remove one of the two"))
        else:
            seen.add(name)
            yield name


def _cycle_finding(nodes: Sequence[Node], cycle: list[str]) -> Finding:
    """``cycle`` ends with its first id. Not every need of it can be a default, since those lead upwards only."""
    at = next(node for node in nodes if node.id in cycle and node.needs is not None)
    start = cycle.index(at.id)
    turned = [*cycle[start:-1], *cycle[:start], at.id]
    message = f"the steps need one another in a circle: {' needs '.join(turned)}"
    fix = f"remove `{turned[1]}` from the needs of `{at.id}`"
    return Finding(path=(*at.path, "needs"), code="cycle", message=message, fix=fix)


def _text_order(ids: Sequence[str], needs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The order of the text, but no step before one that it needs."""
    rank = {name: position for position, name in enumerate(ids)}
    order: list[str] = []
    sorter = TopologicalSorter({name: needs[name] for name in ids})
    sorter.prepare()
    ready = set(sorter.get_ready())
    while ready:
        following = min(ready, key=rank.__getitem__)
        ready.remove(following)
        order.append(following)
        sorter.done(following)
        ready.update(sorter.get_ready())
    return tuple(order)
