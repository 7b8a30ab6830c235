# SPDX-License-Identifier: Apache-2.0
"""Commands and worker processes, with real processes."""

import asyncio
import os
import signal
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest

from scrigno.host.process import CommandNotFound, CommandTimeout, run, spawn_worker


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


async def test_a_command_answers_its_output_error_text_and_code() -> None:
    done = await run(["sh", "-c", "cat; echo oops >&2; exit 3"], timeout_s=5, stdin=b"hello")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"hello", b"oops\n")


async def test_a_command_sees_a_cleaned_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    done = await run(["env"], timeout_s=5)
    assert b"SECRET" not in done.stdout
    assert b"LC_ALL=C.UTF-8" in done.stdout


async def test_a_missing_command_is_said_in_words() -> None:
    with pytest.raises(CommandNotFound, match="no-such-tool-at-all"):
        await run(["no-such-tool-at-all"], timeout_s=5)


@pytest.mark.timing
async def test_a_command_over_its_time_is_killed_with_its_children() -> None:
    started = time.monotonic()
    with pytest.raises(CommandTimeout):
        await run(["sh", "-c", "sleep 60 & sleep 60"], timeout_s=0.3)
    assert time.monotonic() - started < 3


async def test_a_command_that_floods_its_output_is_capped() -> None:
    done = await run(["sh", "-c", "yes"], timeout_s=10, output_limit_bytes=100_000)
    assert len(done.stdout) <= 100_000
    assert done.returncode != 0


async def test_a_cancelled_command_is_killed() -> None:
    task = asyncio.create_task(
        run(["sh", "-c", "echo $$ > /proc/self/fd/1; sleep 61"], timeout_s=60)
    )
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    done = await run(["pgrep", "-f", "^sleep 61$"], timeout_s=5)
    assert done.stdout == b""


@pytest.fixture
def echo_module(tmp_path: Path) -> Path:
    (tmp_path / "echo_worker.py").write_text(
        textwrap.dedent("""
            import os, sys
            from scrigno.host.child import enter
            sock, = enter()
            fds = sorted(int(n) for n in os.listdir("/proc/self/fd"))
            sock.sendall(f"{sys.argv[1:]} {len(fds)} {os.environ.get('SECRET')}".encode())
            while data := sock.recv(100):
                sock.sendall(data)
        """)
    )
    return tmp_path


def _environment(folder: Path) -> dict[str, str]:
    import scrigno

    return {"PYTHONPATH": f"{Path(scrigno.__file__).parent.parent}:{folder}"}


async def test_a_worker_gets_its_socket_its_arguments_and_nothing_else(
    echo_module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    loop = asyncio.get_running_loop()
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    process = spawn_worker(
        "echo_worker", ["a", "b"], fds=[theirs], environment=_environment(echo_module)
    )
    theirs.close()
    os.close(stray)
    hello = await asyncio.wait_for(loop.sock_recv(ours, 1000), 10)
    # stdin, stdout, stderr, the socket, and the directory being listed
    assert hello.decode() == "['a', 'b'] 5 None"
    ours.close()
    assert await process.wait(5) == 0


async def test_a_stopped_worker_can_be_killed_and_is_reaped(echo_module: Path) -> None:
    ours, theirs = socket.socketpair()
    process = spawn_worker("echo_worker", fds=[theirs], environment=_environment(echo_module))
    theirs.close()
    process.send_signal(signal.SIGSTOP)
    assert await process.wait(0.1) is None
    process.kill()
    assert await process.wait(5) == -signal.SIGKILL
    process.kill()
    ours.close()


async def test_a_worker_dies_with_a_parent_that_was_killed(echo_module: Path) -> None:
    """Even when it is stopped and cannot see its socket close."""
    parent = textwrap.dedent(f"""
        import asyncio, os, signal, socket, sys, time
        sys.path.insert(0, {str(echo_module)!r})
        from scrigno.host.process import spawn_worker
        async def main():
            ours, theirs = socket.socketpair()
            p = spawn_worker("echo_worker", fds=[theirs],
                environment={_environment(echo_module)!r})
            ours.recv(1000)
            p.send_signal(signal.SIGSTOP)
            print(p.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
    """)
    done = await run(
        [sys.executable, "-c", parent], timeout_s=20, environment=_environment(echo_module)
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    for _ in range(100):
        if _gone(pid):
            break
        await asyncio.sleep(0.05)
    assert _gone(pid)
