"""Redis servers that belong together: a cluster of three, and a master with its replica and a sentinel."""

import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from redis import Redis, RedisError

from tests.redis_server import RedisServer, free_port

SLOTS = 16384


def wait_for(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def cluster_port():
    """Return a free port whose bus port, 10,000 higher, is free as well."""
    while True:
        port = free_port()
        with suppress(OSError, OverflowError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port + 10_000))
            return port


class RedisCluster:
    """Three masters that share the slots."""

    def __init__(self, program):
        settings = {"cluster_enabled": "yes", "cluster_node_timeout": 1000, "cluster_require_full_coverage": "no"}
        self.nodes = [RedisServer(program, cluster_port(), **settings) for _ in range(3)]
        self.clients = [Redis(port=node.port) for node in self.nodes]
        for number, client in enumerate(self.clients):
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3
            client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
            client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
        self.wait()

    def wait(self):
        """Wait until every node knows every slot."""
        wait_for(lambda: all(self._is_whole(client) for client in self.clients))

    def url(self):
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def close(self):
        for client in self.clients:
            client.close()
        for node in self.nodes:
            node.close()

    @staticmethod
    def _is_whole(client):
        state = client.execute_command("CLUSTER INFO")
        return (state["cluster_state"], state["cluster_slots_ok"]) == ("ok", str(SLOTS))


class RedisSentinel:
    """A master, its replica, and a sentinel that lets the replica take over."""

    def __init__(self, program, folder):
        self.master = RedisServer(program)
        self.replica = RedisServer(program, repl_diskless_sync="yes", repl_diskless_sync_delay=0)
        with Redis(port=self.replica.port) as client:
            client.replicaof("127.0.0.1", self.master.port)
        self.port = free_port()
        settings = Path(folder) / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor answers 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds answers 300\nsentinel failover-timeout answers 2000\n"
        )
        command = [program, str(settings), "--sentinel"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - as written above
        self.watch = Redis(port=self.port, decode_responses=True, retry=None)
        wait_for(self._knows_replica)

    def url(self):
        return f"redis+sentinel://127.0.0.1:{self.port}/answers/0"

    def close(self):
        self.watch.close()
        self._process.kill()
        self._process.wait()
        for server in (self.master, self.replica):
            server.close()

    def _knows_replica(self):
        try:
            states = self.watch.sentinel_slaves("answers")
        except RedisError:
            return False
        return any(not state["is_disconnected"] and state["master-link-status"] == "ok" for state in states)
