"""Memories that are kept: between processes, beside a server that fails, and over the end of a process."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import zlib

import pytest
from redis import Redis

from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import StoreDegraded
from prefixcache_integrations.memories import KeptMemory, chosen_memory, open_memory
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.reports import unpacked
from prefixcache_integrations.prompt.stability import PromptMemory
from prefixcache_integrations.sdk_hooks import ClientLayout
from prefixcache_integrations.stores.redis_reports import RedisLog
from prefixcache_integrations.stores.report_log import Batch
from tests.prompt.words import WORDS

CLAUDE = AnthropicMessages()


@pytest.fixture
def admin(shared_redis):
    with Redis.from_url(shared_redis.url()) as client:
        client.flushall()
        yield client


@pytest.fixture
def url(shared_redis, admin):
    return shared_redis.url()


@pytest.fixture
def opened():
    """Return a function that opens a memory, which is closed behind the test."""
    memories = []

    def open_(url, **settings):
        memories.append(open_memory(url, **settings))
        return memories[-1]

    yield open_
    for memory in memories:
        memory.close()


def body(question, tools=()):
    return {
        "model": "claude-opus-4-8",
        "max_tokens": 1,
        "system": "instruction " * 1500,
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in tools],
        "messages": [{"role": "user", "content": f"question {question} " + "word " * 400}],
    }


def send(memory, question, namespace="", tools=(), ago=0.0):
    request, now = CLAUDE.decode_request(body(question, tools)), time.time() - ago
    with memory.turn:
        made = decide(request, resolve(request.model), WORDS, snapshot=memory.snapshot(now, namespace))
        memory.observe(made.sighting, now, namespace)
    return [row.reason for row in made.plan.breakpoints]


def send_many(*memories, **settings):
    """Send sixty questions, ten seconds apart, of which none comes again."""
    for number in range(60):
        send(memories[number % len(memories)], number, ago=610.0 - 10 * number, **settings)


def marks(memory, question, namespace="", tools=()):
    request = CLAUDE.decode_request(body(question, tools))
    made = decide(request, resolve(request.model), WORDS, snapshot=memory.snapshot(time.time(), namespace))
    return [row.reason for row in made.plan.breakpoints], [tool.name for tool in made.request.tools]


URLS = {
    "redis": lambda request: request.getfixturevalue("url"),
    "sqlite": lambda request: f"sqlite:///{request.getfixturevalue('tmp_path')}/memory.db",
}


@pytest.fixture(params=URLS)
def place(request):
    return URLS[request.param](request)


def test_one_that_starts_again_plans_as_the_one_before(place, opened):
    first = opened(place)
    send_many(first, tools=("zeta",))
    send(first, 60, tools=("alpha", "zeta"))
    first.close()
    again, none = opened(place), PromptMemory()
    assert len(again) == len(first) > 60
    for question in (10, "never asked"):
        for tools in ((), ("zeta", "alpha"), ("beta", "zeta")):
            assert marks(again, question, tools=tools) == marks(first, question, tools=tools)
    assert "tail" in marks(none, "never asked", tools=("zeta",))[0]
    assert "tail" not in marks(again, "never asked", tools=("zeta",))[0]


def test_tenants_and_applications_know_nothing_of_each_other(place, opened):
    first = opened(place, app="shop")
    send_many(first, namespace="one")
    first.close()
    again, other = opened(place, app="shop"), opened(place, app="desk")
    assert marks(again, "new", namespace="one") == (["system"], [])
    assert marks(again, "new", namespace="two") == (["system", "tail"], [])
    assert marks(other, "new", namespace="one") == (["system", "tail"], [])


def test_two_at_a_time_know_what_either_sends(place, opened):
    one, other = opened(place), opened(place)
    send_many(one, other)
    for memory in (one, other, one):
        assert memory.flush()
    assert len(one) == len(other)
    assert marks(one, "new") == marks(other, "new") == marks(opened(place), "new") == (["system"], [])
    for memory in (one, other):
        assert memory.flush()
    assert len(one) == len(other), "nothing is learned twice"


def test_others_learn_by_themselves(url, opened):
    one, other = opened(url), opened(url)
    send(one, 1)
    deadline = time.monotonic() + 20
    while len(other) < len(one):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_that_cannot_be_reached_hinders_nobody(opened):
    events = []
    memory = opened("redis://127.0.0.1:1/0", observers=[events.append])
    assert send(memory, 1) == ["system", "tail"]
    assert not memory.flush()
    assert not memory.flush()
    assert events == [StoreDegraded(operation="add", error="Redis: ConnectionError")]


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_was_said(start_redis):
    server = start_redis()
    server.pause()
    began = time.monotonic()
    memory = open_memory(server.url(), timeout=0.1)
    sent_at = time.monotonic()
    send(memory, 1)
    server.resume()
    memory.close()
    assert sent_at - began < 5.0


def test_what_could_not_be_told_is_told_when_the_server_is_back(start_redis):
    server = start_redis()
    memory = open_memory(server.url())
    server.kill()
    send(memory, 1)
    assert not memory.flush()
    send(memory, 2)
    server.start()
    assert memory.flush()
    other = open_memory(server.url())
    assert len(other) == len(memory)
    memory.close()
    other.close()


def test_what_cannot_be_read_is_said_and_left_out(url, opened):
    log = RedisLog(url, app="", max_bytes=2**20, horizon=60.0)
    log.exchange("stranger", [Batch("stranger", 0, 0.0, b"anything")])
    log.close()
    first = opened(url)
    send(first, 1)
    first.close()
    events = []
    assert len(opened(url, observers=[events.append])) == len(first)
    assert [event.operation for event in events] == ["get"]


def test_batches_whose_reply_got_lost_are_learned_once(url, opened):
    first = opened(url)
    send(first, 1)
    first.flush()
    log = RedisLog(url, app="", max_bytes=2**20, horizon=60.0)
    [batch] = log.exchange("reader", [])
    log.exchange(batch.origin, [batch])
    log.close()
    snapshots = [memory.snapshot(time.time()) for memory in (first, opened(url))]
    seen = unpacked(batch.data)[0].steps[0].key
    assert [sum(snapshot.sent_often(snapshot.path([seen]))) for snapshot in snapshots] == [1, 1]


def test_a_fork_goes_on_by_itself(url):
    memory = open_memory(url)
    send(memory, 1)
    known = len(memory)
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(memory,))
    child.start()
    child.join()
    send(memory, 3)
    memory.flush()
    memory.close()
    fresh = open_memory(url)
    assert child.exitcode == 0
    assert len(memory) == len(fresh) == known + 2
    fresh.close()


def _in_child(memory):
    before = len(memory)
    send(memory, f"of {os.getpid()}")
    memory.close()
    os._exit(0 if len(memory) > before else 1)


def test_forks_while_others_plan_never_hang(url):
    memory, done = open_memory(url), threading.Event()

    def plan_on():
        number = 0
        while not done.is_set():
            number += 1
            send(memory, number)

    thread = threading.Thread(target=plan_on)
    thread.start()
    children = []
    for _ in range(10):
        children.append(multiprocessing.get_context("fork").Process(target=_in_child, args=(memory,)))
        children[-1].start()
    for child in children:
        child.join(20)
    done.set()
    thread.join()
    memory.close()
    assert [child.exitcode for child in children] == [0] * 10


_ENDS = """
import sys
from tests.test_memories import send_many
from prefixcache_integrations.memories import open_memory
memory = open_memory(sys.argv[1])
send_many(memory)
"""


def test_what_a_process_did_not_tell_it_tells_at_its_end(place, opened):
    subprocess.run([sys.executable, "-c", _ENDS, place], check=True, env=os.environ | {"PYTHONPATH": "."})  # noqa: S603 - our own interpreter
    assert marks(opened(place), "new") == (["system"], [])


def test_layouts_that_name_the_same_place_share_a_memory(url):
    one, other = (ClientLayout(memory=url)._memory for _ in range(2))
    assert isinstance(one, KeptMemory)
    assert one is other
    one.close()
    another = chosen_memory(url)
    assert another is not one
    another.close()


@pytest.mark.parametrize("wrong", ["owned", "redis://host:no", "mysql://host", "sqlite://"])
def test_a_url_that_means_nothing_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        ClientLayout(memory=wrong)


def test_no_word_of_a_prompt_leaves_the_process(url, admin, opened):
    memory = opened(url)
    send(memory, "zebra", namespace="secret tenant", tools=("secret_tool",))
    memory.flush()
    [(_, fields)] = admin.xrange("pfxmem:{default}")
    plain = zlib.decompress(fields[b"b"])
    assert len(plain) > 100
    assert not any(word in plain for word in (b"zebra", b"secret", b"instruction"))
