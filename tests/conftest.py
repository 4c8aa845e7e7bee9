import pytest

from tests.redis_server import ADVICE, RedisServer, find_server


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
