"""Requests that LangChain asks a cache for with the same two strings, though they are not the same."""

import gc
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel, Field, PrivateAttr
from typing_extensions import TypedDict

from prefixcache_integrations.langchain import call_site


class Model(ChatOpenAI):
    """ChatOpenAI whose provider answers ``Answer 1``, ``Answer 2``, …; copies count on together, and it is no setting."""

    _calls: list = PrivateAttr(default_factory=list)

    @property
    def _identifying_params(self):
        return {}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self._calls.append(kwargs)
        message = AIMessage(f"Answer {len(self._calls)}", additional_kwargs={"parsed": None})
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages, stop, run_manager, **kwargs)


@pytest.fixture
def model(cache):
    return Model(model="gpt-4o-mini", api_key="k", cache=cache, temperature=0)


def test_a_model_that_was_changed_asks_anew(model, ask):
    assert ask(model, "hi").content == "Answer 1"
    model.temperature = 1
    assert ask(model, "hi").content == "Answer 2"
    model.model_name = "gpt-4o"
    assert ask(model, "hi").content == "Answer 3"
    model.temperature, model.model_name = 0, "gpt-4o-mini"
    assert ask(model, "hi").content == "Answer 1"


def test_a_setting_changed_in_place_asks_anew(cache, ask):
    model = Model(model="gpt-4o-mini", api_key="k", cache=cache, model_kwargs={"prediction": {"content": "5"}})
    assert ask(model, "hi").content == "Answer 1"
    model.model_kwargs["prediction"]["content"] = "7"
    assert ask(model, "hi").content == "Answer 2"


def test_a_changed_copy_asks_anew(model, ask):
    assert ask(model, "hi").content == "Answer 1"
    copied = model.model_copy(update={"temperature": 1})
    assert copied._get_llm_string() == model._get_llm_string(), "LangChain has learnt to tell them apart"
    assert ask(copied, "hi").content != ask(model, "hi").content
    assert ask(model.model_copy(), "hi").content == "Answer 1"


def test_a_changed_model_shares_the_answers_of_one_made_so(model, cache, ask):
    ask(model, "hi")
    model.temperature = 1
    answer = ask(model, "hi").content
    assert ask(Model(model="gpt-4o-mini", api_key="k", cache=cache, temperature=1), "hi").content == answer


def joke(punchline):
    class Joke(BaseModel):
        setup: str
        text: str = Field(description=punchline)

    return Joke


def test_classes_that_print_alike_count_by_their_schema(model, ask):
    one, other = joke("short"), joke("long")
    assert repr(one) == repr(other)
    ask(model, "hi", response_format=one)
    ask(model, "hi", response_format=one)
    ask(model, "hi", response_format=joke("short"))
    assert len(model._calls) == 1
    ask(model, "hi", response_format=other)
    assert len(model._calls) == 2


def test_typed_dicts_count_by_their_schema_too(model, ask):
    for kind in (TypedDict("Joke", {"text": str}), TypedDict("Joke", {"text": int}), TypedDict("Joke", {"text": str})):
        ask(model, "hi", response_format=kind)
    assert len(model._calls) == 2


def test_a_class_without_a_schema_is_not_cached(model, ask):
    class Odd:
        pass

    ask(model, "hi", response_format=Odd)
    ask(model, "hi", response_format=Odd)
    assert len(model._calls) == 2


def test_another_address_from_the_environment_is_another_request(cache, monkeypatch, ask):
    answers = []
    for url in ("https://one.example/v1", "https://two.example/v1", "https://one.example/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.delenv("OPENAI_API_BASE", raising=False)
        model = Model(model="gpt-4o-mini", api_key="k", cache=cache)
        model._calls.extend(answers)
        answers.append(ask(model, "hi").content)
    assert answers == ["Answer 1", "Answer 2", "Answer 1"]


class Claude(ChatAnthropic):
    """Counts its calls."""

    _calls: list = PrivateAttr(default_factory=list)

    @property
    def _identifying_params(self):
        return {}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self._calls.append(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(f"Answer {len(self._calls)}"))])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages, stop, run_manager, **kwargs)


def test_servers_that_langchain_hides_as_secrets_count(cache, ask):
    """ChatAnthropic dumps ``mcp_servers`` as a secret, since tokens are among them."""

    def servers(url="https://one.example", token="a"):  # noqa: S107 - nobody's
        return [{"type": "url", "url": url, "name": "mail", "authorization_token": token}]

    model = Claude(model="claude-sonnet-4-6", api_key="k", cache=cache, mcp_servers=servers())
    answers = []
    for given in (servers(), servers("https://two.example"), servers(token="b"), servers(), None):
        model.mcp_servers = given
        answers.append(ask(model, "hi").content)
    assert answers == ["Answer 1", "Answer 2", "Answer 3", "Answer 1", "Answer 4"]
    model.mcp_servers = servers()
    model.mcp_servers[0]["authorization_token"] = "c"
    assert ask(model, "hi").content == "Answer 5"


class Custom(BaseChatModel):
    """A model that identifies itself by nothing but its type."""

    name_of_model: str
    heat: float = 0.0
    engine: Any = None

    @property
    def _llm_type(self):
        return "custom"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        message = AIMessage(f"{self.name_of_model} at {self.heat}")
        return ChatResult(generations=[ChatGeneration(message=message)])


class Other(Custom):
    """Another class of the same type."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=AIMessage("other"))])


def test_a_custom_model_counts_by_its_fields_and_its_class(cache, ask):
    models = [Custom(name_of_model="a"), Custom(name_of_model="b"), Custom(name_of_model="a", heat=1.0)]
    models.append(Other(name_of_model="a"))
    assert len({model._get_llm_string() for model in models}) == 1
    for model in models:
        model.cache = cache
    first = [ask(model, "hi").content for model in models]
    assert first == ["a at 0.0", "b at 0.0", "a at 1.0", "other"]
    models[0].heat = 1.0
    assert ask(models[0], "hi").response_metadata["prefixcache"]["hit"]
    assert ask(models[0], "hi").content == "a at 1.0"


class Completion(BaseLLM):
    """A completion model that says with what it was called."""

    @property
    def _llm_type(self):
        return "completion"

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        return LLMResult(generations=[[Generation(text=f"{prompt} {sorted(kwargs.items())}")] for prompt in prompts])


def test_the_arguments_of_a_completion_count(cache, ask):
    model = Completion(cache=cache)
    assert ask(model, "hi", temperature=0) == "hi [('temperature', 0)]"
    assert ask(model, "hi", temperature=1) == "hi [('temperature', 1)]"
    assert ask(model, "hi") == "hi []"


class Passing(BaseCache):
    """A cache in front of another."""

    def __init__(self, inner):
        self.inner = inner
        self.near = InMemoryCache()

    def lookup(self, prompt, llm_string):
        return self.inner.lookup(prompt, llm_string)

    async def alookup(self, prompt, llm_string):
        return await self.inner.alookup(prompt, llm_string)

    def update(self, prompt, llm_string, return_val):
        self.inner.update(prompt, llm_string, return_val)

    async def aupdate(self, prompt, llm_string, return_val):
        await self.inner.aupdate(prompt, llm_string, return_val)

    def clear(self, **kwargs):
        self.inner.clear()


def test_another_cache_may_stand_between(cache, ask):
    model = Model(model="gpt-4o-mini", api_key="k", cache=Passing(cache))
    ask(model, "hi")
    model.temperature = 1
    assert ask(model, "hi").content == "Answer 2"
    assert ask(model, "hi").content == "Answer 2"


def test_what_is_asked_outside_a_call_is_taken_at_its_word(cache):
    generations = [Generation(text="x")]
    cache.update("prompt", "model", generations)
    assert cache.lookup("prompt", "model") == generations


def test_nothing_is_kept_of_a_model_that_is_gone(cache):
    model = Model(model="gpt-4o-mini", api_key="k", cache=cache)
    model.invoke("hi")
    number = id(model)
    assert number in call_site._states
    del model
    gc.collect()
    assert number not in call_site._states


def test_a_schema_that_was_built_anew_counts(model, ask):
    class Joke(BaseModel):
        text: str = Field(description="one")

    ask(model, "hi", response_format=Joke)
    Joke.model_fields["text"].description = "two"
    Joke.model_rebuild(force=True)
    ask(model, "hi", response_format=Joke)
    assert len(model._calls) == 2


def test_a_client_that_was_sent_elsewhere_asks_anew(model, ask):
    ask(model, "hi")
    model.root_client.base_url = "http://elsewhere/v1"
    assert ask(model, "hi").content == "Answer 2"
    assert ask(model, "hi").content == "Answer 2"


@pytest.mark.parametrize("kind", [ChatOpenAI, AzureChatOpenAI])
def test_a_client_that_was_put_in_asks_anew(cache, ask, kind):
    class Own(Model, kind):
        pass

    settings = {"azure_endpoint": "http://here", "api_version": "2024-10-21"} if kind is AzureChatOpenAI else {}
    model = Own(model="gpt-4o-mini", api_key="k", cache=cache, **settings)
    ask(model, "hi")
    for number, changed in enumerate([{"base_url": "http://elsewhere/v1"}, {"default_headers": {"x-route": "7"}}], 2):
        model.client = model.root_client.with_options(**changed).chat.completions
        assert ask(model, "hi").content == ask(model, "hi").content == f"Answer {number}"
    model.client = model.root_client.with_options(timeout=7).chat.completions
    assert ask(model, "hi").content == "Answer 1"


@pytest.mark.parametrize(
    ("make", "variable"),
    [
        (lambda cache: Model(model="gpt-4o-mini", api_key="k", cache=cache), "OPENAI_CUSTOM_HEADERS"),
        (lambda cache: Claude(model="claude-sonnet-4-6", api_key="k", cache=cache), "ANTHROPIC_CUSTOM_HEADERS"),
    ],
    ids=["openai", "anthropic"],
)
def test_headers_of_the_environment_that_route_are_another_request(cache, monkeypatch, ask, make, variable):
    answers, calls = [], []
    for headers in ("x-route: one\nauthorization: Bearer a", "x-route: two", "x-route: one\nx-request-id: 7", None):
        monkeypatch.setenv(variable, headers) if headers else monkeypatch.delenv(variable)
        model = make(cache)
        model._calls = calls
        answers.append(ask(model, "hi").content)
        getattr(model, "_client", None)  # ChatAnthropic makes it at the first call
        assert ask(model, "hi").content == answers[-1]
    assert answers == ["Answer 1", "Answer 2", "Answer 1", "Answer 3"]


def test_another_project_from_the_environment_is_another_request(cache, monkeypatch, ask):
    calls = []
    for number, project in enumerate(["one", "two", "one"], 1):
        monkeypatch.setenv("OPENAI_PROJECT_ID", project)
        model = Model(model="gpt-4o-mini", api_key="k", cache=cache)
        model._calls = calls
        assert ask(model, "hi").content == f"Answer {1 if number == 3 else number}"


def test_what_sdks_send_by_themselves_does_not_count():
    for made in (ChatOpenAI(model="gpt-4o-mini", api_key="k"), ChatAnthropic(model="claude-sonnet-4-6", api_key="k")):
        before = call_site._headers(made)
        getattr(made, "_client", None)  # ChatAnthropic makes it at the first call
        assert before == call_site._headers(made) == {}
