"""Python code that attacks share, to be put before their own."""

SYSCALL = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    value = libc.syscall(number, *arguments)
    return errno.errorcode[ctypes.get_errno()] if value < 0 else value
"""
"""``call(number, …)`` gives what a system call returns, or the name of its error."""

FORGE = """
import json, os
def frame(header, payload=b"", *, head=None, body=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    lengths = (len(header) if head is None else head), (len(payload) if body is None else body)
    return b"".join(length.to_bytes(4, "big") for length in lengths) + header + payload
def forge(data):
    for descriptor in range(3, 20):
        rest = memoryview(data)
        try:
            while rest: rest = rest[os.write(descriptor, rest):]
        except OSError: pass
"""
"""``forge(data)`` writes to every descriptor of the code, its channel to the supervisor among them; ``frame(…)`` makes
a frame, with false lengths if wanted."""
