"""The item that a model's class adds to LangChain's string: what is kept of it from call to call is never out of date."""

from enum import Enum
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from pydantic import Field, PrivateAttr, SecretStr

from prefixcache_integrations.langchain.own import Own
from prefixcache_integrations.langchain.told import added_by


class Colour(Enum):
    RED = 1


class Silent(BaseChatModel):
    """A class that leaves it to nobody to say what identifies its models."""

    one: Any = None
    _private: Any = PrivateAttr()

    _llm_type = "silent"
    _generate = None


class Speaking(ChatOpenAI):
    """A class that says itself what identifies its models, at every call anew."""

    said: Any = Field(default=None, exclude=True)
    _private: Any = PrivateAttr()

    @property
    def _identifying_params(self):
        return {"said": self.said} if self.said != "alone" else self._private


MODELS = [Silent(), Speaking(model="gpt-4o-mini", api_key="k")]
PLACES = {Silent: ("one", "_private"), Speaking: ("said", "_private")}

plain = st.sampled_from(
    [None, True, 1, 1.0, 0.0, -0.0, "", "a", "alone", b"a", (1,), (1.0,), Colour.RED, SecretStr("a")]
)
held = (
    plain | st.lists(plain, max_size=2) | st.dictionaries(st.sampled_from("ab"), plain, max_size=2) | st.builds(object)
)
changes = st.lists(st.tuples(st.integers(0, 1), held, st.booleans()), max_size=6)


def change(model, place, value, *, in_place):
    """Put ``value`` where ``place`` says; if ``in_place`` into the container that is there."""
    name = PLACES[type(model)][place]
    there = getattr(model, name, None)
    if in_place and isinstance(there, list):
        there.append(value)
    elif in_place and isinstance(there, dict):
        there["c"] = value
    else:
        setattr(model, name, value)


@given(st.sampled_from(MODELS), changes)
def test_what_is_kept_is_what_would_be_written_now(model, steps):
    own, added = Own(added_by(type(model))), added_by(type(model))
    for place, value, in_place in steps:
        own.item(model)
        change(model, place, value, in_place=in_place)
        assert own.item(model) == Own(added).item(model)


def test_what_does_not_change_is_written_down_once(monkeypatch):
    model = MODELS[1]
    model.said, model._private = "a", (1, "b")
    own = Own(added_by(type(model)))
    item = own.item(model)
    monkeypatch.setattr("prefixcache_integrations.langchain.own.told", None)
    assert own.item(model) is item
