import asyncio

import pytest
from hypothesis import HealthCheck, settings

from prefixcache_integrations.server import Simulator
from tests import postgres_server
from tests.redis_server import ADVICE, RedisServer, find_server

# A run says of a change what the run before would have said: laws are held against the same examples every time.
# `pytest --hypothesis-profile=search` draws new ones. How long an example takes is the machine's affair.
settings.register_profile("same", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("search", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def event_loop_at_hand():
    """pytest-asyncio and LlamaIndex open an event loop where there is none yet, and leave it open: this one is closed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


@pytest.fixture
def events():
    """Return a list for an observer to append to."""
    return []


@pytest.fixture(scope="module")
def server():
    """One simulator for the tests of a module, which may have it answer in its own way."""
    with Simulator() as running:
        yield running


@pytest.fixture
def simulator(server):
    """Return the simulator of the module, with an empty cache."""
    server.reset()
    return server


@pytest.fixture(scope="session")
def redis_program():
    program = find_server()
    if program is None:
        pytest.skip(f"no Redis server here; run `make test`, or {ADVICE}")
    return program


@pytest.fixture(scope="session")
def shared_redis(redis_program):
    """A server that all tests share; what a test needs to be alone with, it starts itself."""
    server = RedisServer(redis_program)
    yield server
    server.close()


@pytest.fixture
def start_redis(redis_program):
    """Return a function that starts a server for this test alone."""
    started = []

    def start(**settings):
        started.append(RedisServer(redis_program, **settings))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def postgres_programs():
    programs = postgres_server.find_programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL server here; {postgres_server.ADVICE}")
    return programs


@pytest.fixture(scope="session")
def shared_postgres(postgres_programs):
    """A server that all tests share; what a test needs to be alone with, it starts itself."""
    server = postgres_server.PostgresServer(postgres_programs)
    yield server
    server.close()


@pytest.fixture
def start_postgres(postgres_programs):
    """Return a function that starts a server for this test alone."""
    started = []

    def start():
        started.append(postgres_server.PostgresServer(postgres_programs))
        return started[-1]

    yield start
    for server in started:
        server.close()
