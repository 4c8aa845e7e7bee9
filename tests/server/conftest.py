import anthropic
import openai
import pytest

from prefixcache_integrations import dialects, tokens
from prefixcache_integrations.prompt.segments import segments, token_counts
from prefixcache_integrations.server import Simulator


@pytest.fixture(scope="session")
def tokenizer():
    found = tokens.load()
    if not found.exact:
        pytest.skip("exact counts need o200k_base: install the extra 'tokens'")
    return found


@pytest.fixture(scope="session")
def one_simulator(tokenizer):
    with Simulator(tokenizer=tokenizer) as running:
        yield running


@pytest.fixture
def simulator(one_simulator):
    """Return a simulator with an empty cache; its clock and its ids go on from test to test."""
    one_simulator.reset()
    return one_simulator


@pytest.fixture
def claude(simulator):
    with anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(simulator):
    with openai.OpenAI(base_url=simulator.base_url("openai"), api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture
def counted(tokenizer):
    """Return the length of a request's prompt by the simulator's own counter."""

    def count(body, dialect="openai_chat"):
        return sum(token_counts(segments(dialects.by_name(dialect).decode_request(body)), tokenizer))

    return count


@pytest.fixture
def text_of(tokenizer):
    """Return a text of exactly so many tokens; another ``word`` makes another text from the first token on."""

    def text(count, word=" alpha"):
        made = word * count
        assert tokenizer.count(made) == count
        return made

    return text


@pytest.fixture
def sized(counted, text_of):
    """Return a text that brings the prompt that ``build(text)`` makes to exactly ``size`` tokens."""

    def fill(size, build, word=" alpha", dialect="openai_chat"):
        text = text_of(size - counted(build(""), dialect), word)
        assert counted(build(text), dialect) == size
        return text

    return fill
