"""Node.js as a back end: one process a worker, requests and answers as lines of JSON (`pipelines/node/serve.js`)."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

from got_jax.errors import GotError, require

FOLDER = Path(__file__).parents[1] / "node"
INSTALL_NODE = "apt-get install nodejs npm"
INSTALL_PACKAGES = "make node"


def missing() -> str:
    """What this machine lacks for the back end, with the command that installs it; nothing if all is here."""
    if shutil.which("node") is None:
        return f"Node.js is missing; install it with `{INSTALL_NODE}`."
    if not (FOLDER / "node_modules" / "mathpix-markdown-it").is_dir():
        return f"the Node packages of {FOLDER / 'package.json'} are missing; install them with `{INSTALL_PACKAGES}`."
    return ""


class Node:
    """A running renderer. One that hangs or dies is started again, and the request that did it fails by name.

    Attributes:
        seconds: the longest that one request may take. restarts: how often it had to be started again.
    """

    def __init__(self, seconds: float = 20.0, command: tuple[str, ...] = ()) -> None:
        self.seconds = seconds
        self.restarts = 0
        self._command = command or ("node", "--max-old-space-size=1024", "--max-semi-space-size=64", "serve.js")
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._rest = b""
        self._number = 0

    def call(self, method: str, **values: Any) -> Any:
        """The answer to one request.

        Raises:
            GotError: what the renderer says is wrong; or it took too long, or died.
        """
        with self._lock:
            self._number += 1
            request = json.dumps({"id": self._number, "method": method, **values})
            try:
                process = self._started()
                assert process.stdin is not None
                process.stdin.write(request.encode() + b"\n")
                process.stdin.flush()
                answer = json.loads(self._line(process))
            except (OSError, ValueError, TimeoutError) as err:
                self._stop()
                self.restarts += 1
                why = f"took over {self.seconds:g} s" if isinstance(err, TimeoutError) else "died"
                raise GotError(f"the Node renderer {why} on a request of '{method}'; it was started again.") from None
        if "error" in answer:
            raise GotError(f"the Node renderer refused a request of '{method}': {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """Ends the process; the next call starts another."""
        with self._lock:
            self._stop()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            lacking = missing()
            require(not lacking, lacking)
            self._rest = b""
            self._process = subprocess.Popen(
                self._command,
                cwd=FOLDER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", ""), "NODE_ENV": "production"},
            )
        return self._process

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        while b"\n" not in self._rest:
            if not select.select([process.stdout], [], [], self.seconds)[0]:
                raise TimeoutError
            part = os.read(process.stdout.fileno(), 1 << 20)
            if not part:
                raise OSError
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(OSError):
                self._process.wait(5)
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self._process = None


def node(library: str = "mathpix") -> Node:
    """The renderer of this process (a fork has one of its own).

    Args:
        library: "mathpix" or "echarts"; each runs by itself, since the first makes a `document` that the second
            takes for a browser's.
    """
    return _node(os.getpid(), library)


@functools.lru_cache(maxsize=2)
def _node(pid: int, library: str) -> Node:
    del pid, library
    return Node()
