"""The flows that a service runs while it is killed, and what each run of them is to leave."""

from collections.abc import Iterator

MIXED = """\
flow: mixed
inputs: {n: {type: integer}}
triggers:
  - id: hook
    webhook: {path: mixed, verify: none, id: X-Message-Id}
    with: {n: "${{ event.body.n }}"}
steps:
  - {id: begin, tool: workspace.create_task, with: {title: "begin ${{ inputs.n }}", statusId: open}}
  - id: code
    tools: [workspace.create_task]
    with: {n: "${{ inputs.n }}"}
    python: |
      for number in range(3):
          tools.create_task(title=f"code {inputs['n']} {number}", statusId="open")
      return {"n": inputs["n"]}
  - id: threads
    tools: [workspace.create_task]
    with: {n: "${{ inputs.n }}"}
    javascript: |
      const write = item => tools.create_task({title: `threads ${inputs.n} ${item}`, statusId: "open"});
      await Promise.all(["a", "b", "c"].map(write));
    needs: [begin]
  - id: each
    tool: workspace.create_task
    for_each: {in: [a, b, c], concurrency: 2}
    with: {title: "each ${{ inputs.n }} ${{ item }}", statusId: open}
    needs: [code]
  - id: post
    tool: http.request
    with: {url: "SERVER", method: POST, json: {n: "${{ inputs.n }}"}, idempotent: true}
    needs: [begin]
  - {id: inner, flow: inner, with: {n: "${{ inputs.n }}"}, needs: [code, threads, each, post]}
output: ${{ steps.code.result.n }}
finally:
  - {id: tidy, tool: workspace.create_task, with: {title: "tidy ${{ inputs.n }}", statusId: open}}
"""
INNER = """\
flow: inner
inputs: {n: {type: integer}}
steps:
  - {id: inner_begin, tool: workspace.create_task, with: {title: "inner ${{ inputs.n }}", statusId: open}}
  - {id: inner_nap, wait: 300ms}
  - {id: inner_end, tool: workspace.create_task, with: {title: "inner end ${{ inputs.n }}", statusId: open}}
"""
TICKS = """\
flow: ticks
inputs: {at: {type: string}}
triggers:
  - id: second
    schedule: {interval: 1s, catch_up: all}
    with: {at: "${{ event.scheduled_at }}"}
steps:
  - {id: tick, tool: workspace.create_task, with: {title: "tick ${{ inputs.at }}", statusId: open}}
"""
PARKS = """\
flow: parks
inputs: {n: {type: integer}}
triggers:
  - id: hook
    webhook: {path: parks, verify: none, id: X-Message-Id}
    with: {n: "${{ event.body.n }}"}
steps:
  - {id: first, tool: workspace.create_task, with: {title: "first ${{ inputs.n }}", statusId: open}}
  - {id: ask, approval: {message: Go on?}, with: {n: "${{ inputs.n }}"}}
  - {id: nap, wait: 700ms, needs: [first]}
  - {id: paid, wait: {event: shop.paid, match: event.data.n == inputs.n}, needs: [first]}
  - id: last
    tool: workspace.create_task
    with: {title: "last ${{ inputs.n }}", statusId: open}
    needs: [ask, nap, paid]
output: ${{ steps.paid.result.data.n }}
finally:
  - {id: bye, tool: workspace.create_task, with: {title: "bye ${{ inputs.n }}", statusId: open}}
"""
FLOWS = {"inner": INNER, "mixed": MIXED, "parks": PARKS, "ticks": TICKS}
STEPS = {
    "mixed": {"begin", "code", "threads", "each", "post", "inner", "tidy"},
    "inner": {"inner_begin", "inner_nap", "inner_end"},
    "parks": {"first", "ask", "nap", "paid", "last", "bye"},
    "ticks": {"tick"},
}
"""The steps of each flow, all of which run, but for what comes after a no."""


def titles_of_mixed(n: int) -> Iterator[str]:
    """The tasks that a run of `mixed` makes, each once."""
    yield from (f"begin {n}", f"inner {n}", f"inner end {n}", f"tidy {n}")
    yield from (f"code {n} {number}" for number in range(3))
    yield from (f"{step} {n} {item}" for step in ("threads", "each") for item in "abc")


def titles_of_parks(n: int) -> Iterator[str]:
    """The tasks that a run of `parks` makes, each once."""
    yield from (f"first {n}", f"bye {n}")
    if is_approved(n):
        yield f"last {n}"


def is_approved(n: int) -> bool:
    """Whether the answer to the question of a run of `parks` is yes."""
    return n % 5 != 4
