"""What a model is that is not LangChain's own: what of it counts, and what makes it one that is not cached."""

import dataclasses
from typing import Any, ClassVar

import pytest
from langchain_core.language_models import LLM, BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, Field, PrivateAttr

from prefixcache_integrations.langchain import ResponseCache, with_response_cache
from prefixcache_integrations.stores import MemoryStore


class Answers:
    """Mixin: answers with what is not said of it."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.says()))])

    @property
    def _llm_type(self):
        return "custom"


class Persona(BaseModel):
    name: str = Field(repr=False)
    _mood: str = PrivateAttr(default="calm")


@dataclasses.dataclass
class Style:
    tone: str


class Rich(Answers, BaseChatModel):
    """A model with settings of every kind."""

    prompts: list = Field(default_factory=list)
    cfg: dict = Field(default_factory=dict)
    persona: Persona | None = None
    inner: Any = None
    hidden: str = Field(default="", exclude=True)
    _private: str = PrivateAttr(default="")

    def says(self):
        return repr(
            [self.prompts, self.cfg, self.persona and self.persona.name, self.inner, self.hidden, self._private]
        )


def private(model, value):
    model._private = value
    return model


class Derived(Answers, ChatOpenAI):
    """A class of somebody's own on top of a known one."""

    extra: Any = Field(default=None, exclude=True)
    _private: Any = PrivateAttr(default=None)

    def says(self):
        return repr([self.extra, self._private])


def derived(**fields):
    return Derived(model="gpt-4o-mini", api_key="k", **fields)


def overriding(word):
    class Local(Answers, ChatOpenAI):
        """A class of the same name as others."""

        def says(self):
            return word

    return Local(model="gpt-4o-mini", api_key="k")


def identified(word):
    class Local(Answers, BaseChatModel):
        @property
        def _identifying_params(self):
            return {"model": "m"}

        def says(self):
            return word

    return Local()


class One(Answers, BaseChatModel):
    """A class that says of its models what another says of its own."""

    @property
    def _identifying_params(self):
        return {"model": "m"}

    def says(self):
        return "one"


class Two(One):
    def says(self):
        return "two"


class Speaker(LLM):
    """A completion model that identifies itself by nothing but its type."""

    persona: str = "a"
    _private: str = PrivateAttr(default="")

    @property
    def _llm_type(self):
        return "speaker"

    def _call(self, prompt, stop=None, run_manager=None, **kwargs):
        return f"{self.persona}{self._private}"


class Completing(OpenAI):
    """OpenAI's completions; nobody is asked."""

    @property
    def _identifying_params(self):
        return super()._identifying_params

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        answer = repr([self.openai_api_base, str(self.client._client.base_url), self.default_headers])
        return LLMResult(generations=[[Generation(text=answer)] for _ in prompts])


def completing(**fields):
    return Completing(model="m", api_key="k", **fields)


DIFFERENT = {
    "a list": (Rich(prompts=["a"]), Rich(prompts=["b"])),
    "a dictionary": (Rich(cfg={"a": 1}), Rich(cfg={"a": 2})),
    "an object of pydantic's": (Rich(persona=Persona(name="a")), Rich(persona=Persona(name="b"))),
    "a dataclass": (Rich(inner=Style("a")), Rich(inner=Style("b"))),
    "a set in a list": (Rich(prompts=[{"a"}]), Rich(prompts=[{"b"}])),
    "a model inside": (Rich(inner=derived()), Rich(inner=derived(temperature=1))),
    "an excluded field": (Rich(hidden="a"), Rich(hidden="b")),
    "private state": (private(Rich(), "a"), private(Rich(), "b")),
    "a class that is identified alike": (One(), Two()),
    "local classes that are identified alike": (identified("one"), identified("two")),
    "a local class": (overriding("one"), overriding("two")),
    "private state of a derived class": (private(derived(), "a"), private(derived(), "b")),
    "an excluded field of a derived class": (derived(extra=["a"]), derived(extra=["b"])),
    "a field of a completion model": (Speaker(), Speaker(persona="b")),
    "private state of a completion model": (private(Speaker(), "a"), private(Speaker(), "b")),
    "the address of a completion model": (completing(base_url="http://a/v1"), completing(base_url="http://b/v1")),
    "the headers of a completion model": (
        completing(default_headers={"x": "a"}),
        completing(default_headers={"x": "b"}),
    ),
}


def answers(model, cache, door):
    """Return what a model answers twice, and how often that was a hit."""
    if door == "view":
        asking = with_response_cache(model, cache)
    else:
        asking = model.model_copy(update={"cache": cache}) if model.cache is None else model
    before = cache.stats().hits
    given = [getattr(answer, "content", answer) for answer in (asking.invoke("hi"), asking.invoke("hi"))]
    return given, cache.stats().hits - before


@pytest.mark.parametrize("door", ["cache", "view"])
@pytest.mark.parametrize("pair", [pytest.param(pair, id=name) for name, pair in DIFFERENT.items()])
def test_models_that_differ_in_what_langchain_does_not_say_share_nothing(cache, pair, door):
    if door == "view" and isinstance(pair[0], BaseLLM):
        pytest.skip("views are of chat models")
    said = [answers(model, cache, door) for model in (*pair, *pair)]
    assert said[0][0] != said[1][0]
    assert said[2:] == [(said[0][0], 2), (said[1][0], 2)]
    assert [hits for _, hits in said] == [1, 1, 2, 2], "what is the same is a hit"


def test_an_object_changed_in_place_asks_anew(cache, ask):
    model = Rich(cache=cache, persona=Persona(name="a"), inner=derived())
    for change in (
        lambda: setattr(model.persona, "name", "b"),
        lambda: setattr(model.persona, "_mood", "wild"),
        lambda: model.prompts.append("c"),
        lambda: setattr(model.inner, "temperature", 1),
        lambda: setattr(model, "_private", "d"),
    ):
        ask(model, "hi")
        change()
        assert "prefixcache" not in ask(model, "hi").response_metadata
        assert ask(model, "hi").response_metadata["prefixcache"]["hit"]


def test_a_class_that_was_changed_asks_anew(cache, ask):
    class Manner:
        rules: ClassVar = ["short"]

        def says(self):
            return "one"

    class Mannered(Answers, Manner, BaseChatModel):
        persona: Any = None

    class Wild(Persona):
        pass

    model = Mannered(cache=cache, persona=Wild(name="a"))
    for change in (
        lambda: setattr(Manner, "says", lambda self: "two"),
        lambda: setattr(Manner, "says", lambda self: "three"),
        lambda: Manner.rules.append("plain"),
        lambda: setattr(Manner, "tone", "dry"),
        lambda: setattr(Mannered, "says", lambda self: "four"),
        lambda: setattr(Wild, "manner", "loud"),
    ):
        assert ask(model, "hi").content == ask(model, "hi").content
        change()
        answer = ask(model, "hi")
        assert "prefixcache" not in answer.response_metadata
        assert answer.content == model.says()
        assert ask(model, "hi").response_metadata["prefixcache"]["hit"]


@pytest.mark.parametrize("door", ["cache", "view"])
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Rich(inner=object()), id="an object"),
        pytest.param(Rich(prompts=[object()]), id="an object in a list"),
        pytest.param(private(Rich(), iter("a")), id="private state"),
        pytest.param(derived(extra=object()), id="a derived class"),
        pytest.param(private(Speaker(), iter("a")), id="a completion model"),
    ],
)
def test_a_model_with_what_cannot_be_written_down_is_not_cached(model, door):
    if door == "view" and isinstance(model, BaseLLM):
        pytest.skip("views are of chat models")
    events = []
    cache = ResponseCache(MemoryStore(), observers=[events.append])
    assert answers(model, cache, door)[1] == 0
    assert "PassedThrough" in {type(event).__name__ for event in events}
