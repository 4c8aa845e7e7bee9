"""Ten processes on one SQLite file, and writers that are killed beside them."""

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores import SQLiteStore
from prefixcache_integrations.stores.envelope import unpack

PROCESSES, OPERATIONS, KILLED = 10, 1000, 8

_WORKER = """
import random, sys
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.stores import SQLiteStore
from prefixcache_integrations.stores.envelope import pack, unpack
path, number, operations = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dice, store = random.Random(number), SQLiteStore(path, max_bytes=2_000_000)
print("open", flush=True)
sys.stdin.readline()
done = 0
while done != operations:
    done += 1
    key = EntryKey(dice.choice(["", "tenant"]), str(dice.randrange(200)))
    match dice.choices(["get", "put", "delete", "invalidate", "clear"], [60, 35, 3, 1, 0.2])[0]:
        case "get":
            value = store.get(key)
            assert value is None or unpack(key, value).body.startswith(key.digest.encode())
        case "put":
            entry = Entry(codec="test", body=key.digest.encode() * dice.randrange(1, 3000))
            ttl = dice.choice([None, None, 0.05, 60])
            assert store.put(key, pack(key, entry), ttl, dice.sample(["red", "blue"], dice.randrange(3)))
        case "delete": store.delete(key)
        case "invalidate": store.invalidate(key.namespace, "red")
        case "clear" if done < 900: store.clear(key.namespace)
print("done")
"""


def begin(path, number, operations):
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _WORKER, str(path), str(number), str(operations)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_ten_thousand_operations_of_ten_processes_meet_no_error_while_writers_are_killed(tmp_path):
    path, dice = tmp_path / "answers.db", random.Random(3)  # noqa: S311 - repeatable on purpose
    workers = [begin(path, number, OPERATIONS) for number in range(PROCESSES)]
    victims = [begin(path, PROCESSES + number, -1) for number in range(KILLED)]  # they never finish
    for process in (*workers, *victims):
        assert process.stdout.readline() == "open\n"
    for process in (*workers, *victims):
        process.stdin.write("go\n")
        process.stdin.flush()
    for victim in victims:
        time.sleep(dice.uniform(0.005, 0.1))
        victim.kill()
        assert victim.communicate()[1] == ""
    assert [worker.communicate() for worker in workers] == [("done\n", "")] * PROCESSES
    with closing(sqlite3.connect(path)) as outside:
        assert outside.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        keys = [EntryKey(*row) for row in outside.execute("SELECT namespace, digest FROM entries_v2")]
    with closing(SQLiteStore(path)) as store:
        found = [(key, value) for key in keys if (value := store.get(key)) is not None]
    assert len(found) > 5
    for key, value in found:
        assert unpack(key, value).body.startswith(key.digest.encode())
