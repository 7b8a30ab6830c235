# SPDX-License-Identifier: Apache-2.0
"""The imaging worker process: one job after another, until the pool is gone or ends it.

Started as `python -m scrigno.imaging.worker MEMORY_LIMIT OUTPUT_LIMIT CPU_LIMIT`. Everything heavy
is imported here before the sandbox closes, so the first job finds it loaded.
"""

import logging
import os
import sys
import warnings
from typing import Any

from scrigno.host.child import enter

from .errors import DecodeFailed, ImagingError
from .protocol import receive, send, wait_or
from .sandbox import allow_cpu, confine


def main(arguments: list[str]) -> None:
    """Serve jobs until the control socket ends."""
    [control] = enter()
    memory_limit, output_limit, cpu_limit = (int(text) for text in arguments)
    # decoders written in C complain on stderr; the object's fault is told in the answer
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.close(silence)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    from . import jobs  # after enter(), so that a worker of a dead parent ends before it loads

    jobs.load()
    measures = confine(memory_limit_bytes=memory_limit, output_limit_bytes=output_limit)
    send(control, {"ready": measures})
    while True:
        wait_or(control, jobs.held.sweep)
        try:
            request, fds = receive(control)
        except EOFError:
            return
        allow_cpu(cpu_limit)
        answer, results = _answer(jobs.run, request, fds[0])
        send(control, answer, results)
        for fd in (*fds, *results):
            os.close(fd)


def _answer(run: Any, request: dict[str, Any], fd: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Run one job; whatever it raises becomes an answer without a text of the object in it."""
    try:
        answer, result = run(request, fd)
    except ImagingError as error:
        return {"error": error.code, "reason": error.reason[:500]}, ()
    except (MemoryError, OSError):  # Pillow's and mmap's way to say the same; a worker has no files
        reason = "Decoding needs more memory than a worker may use."
        return {"error": DecodeFailed.code, "reason": reason, "retire": True}, ()
    except Exception as error:  # noqa: BLE001 - hostile input reaches every corner of the libraries
        reason = f"The object could not be decoded ({type(error).__name__})."
        return {"error": DecodeFailed.code, "reason": reason}, ()
    return answer, (result,)


if __name__ == "__main__":
    main(sys.argv[1:])
