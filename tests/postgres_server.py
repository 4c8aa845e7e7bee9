"""A real PostgreSQL server on this machine, for tests: the one on PATH, else one where Debian keeps its versions."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.redis_server import free_port

DEBIAN = Path("/usr/lib/postgresql")
ADVICE = "install one (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql)"
USER = "prefixcache"
PASSWORD = "right"


def find_programs():
    """Return the folder with ``initdb`` and ``postgres``, ``None`` if there is none."""
    versions = sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    folders = [*([Path(on_path).resolve().parent] if on_path else []), *versions]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class PostgresServer:
    """A server on a loopback port of its own. PostgreSQL refuses to run as root, and is run as nobody then."""

    def __init__(self, programs):
        self.port = free_port()
        self._programs = programs
        self._as = {}
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder.name, user.pw_uid, user.pw_gid)
        self.data = Path(self._folder.name) / "data"
        self._create()
        self._process = None
        self.start()

    def url(self, user=f"{USER}:{PASSWORD}@", options=""):
        return f"postgresql://{user}127.0.0.1:{self.port}/postgres{options}"

    def start(self):
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
            "shared_buffers": "16MB", "max_connections": "40", "autovacuum": "off",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        pg_ctl = [self._programs / "pg_ctl", "--pgdata", self.data, "--log", self.data / "log", "--wait", "--silent"]
        self._run(*pg_ctl, "start", "--options", " ".join(options))
        self._process = int((self.data / "postmaster.pid").read_text().split()[0])

    def kill(self):
        """Stop it without a word to its clients."""
        self._run(self._programs / "pg_ctl", "--pgdata", self.data, "--wait", "--silent", "--mode=immediate", "stop")

    def pause(self):
        self._signal(signal.SIGSTOP)

    def resume(self):
        self._signal(signal.SIGCONT)

    def close(self):
        self.resume()
        with suppress(subprocess.CalledProcessError):
            self.kill()
        self._folder.cleanup()

    def _create(self):
        password = Path(self._folder.name) / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            self._programs / "initdb", "--pgdata", self.data, "--username", USER, "--pwfile", password,
            "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C",
        )  # fmt: skip

    def _signal(self, number):
        """Send a signal to the server and to the process of every connection."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self._process)], capture_output=True, text=True)  # noqa: S603, S607, PLW1510
        for process in (self._process, *map(int, children.stdout.split())):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def _run(self, *command):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", **self._as)  # noqa: S603 - as written above
