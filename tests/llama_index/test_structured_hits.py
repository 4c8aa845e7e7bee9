"""A structured output that comes from the store is what the call gave, or it is not kept."""

import pytest
from llama_index.core import PromptTemplate
from pydantic import BaseModel, Field, field_serializer, field_validator

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import EntryRejected
from prefixcache_integrations.llama_index import enable
from prefixcache_integrations.llama_index.answers import of_structured

ASK = PromptTemplate("Describe lamps.")


class Plain(BaseModel):
    name: str
    price: float


class Defaults(BaseModel):
    name: str
    colour: str = "red"


class WrittenOtherwise(BaseModel):
    name: str = Field(serialization_alias="title")


class Aliased(BaseModel):
    name: str = Field(alias="title")


class Taxed(BaseModel):
    price: float

    def model_post_init(self, _context):
        self.price *= 1.2


class Shouted(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def shout(cls, value):
        return value + "!"


class Masked(BaseModel):
    name: str

    @field_serializer("name")
    def mask(self, _value):
        return "***"


class LeftOut(BaseModel):
    name: str = Field(default="dflt", exclude=True)
    price: float


class LeftOutWithoutDefault(BaseModel):
    name: str = Field(exclude=True)
    price: float


KEPT = [Plain, Defaults, WrittenOtherwise, Aliased]
NOT_KEPT = [Taxed, Shouted, Masked, LeftOut, LeftOutWithoutDefault]


@pytest.mark.parametrize("provider", ["claude", "responses"])
@pytest.mark.parametrize("kind", KEPT + NOT_KEPT)
def test_asked_again_the_output_is_what_it_was(simulator, llms, provider, kind):
    told = []
    plain = getattr(llms, provider)().structured_predict(kind, ASK)
    simulator.reset()
    llm = enable(getattr(llms, provider)(), cache="memory://", observers=[told.append])
    outputs = [llm.structured_predict(kind, ASK) for _ in range(2)]
    assert outputs == [plain, plain]
    assert [output.model_fields_set for output in outputs] == [plain.model_fields_set] * 2
    assert [output.__dict__ for output in outputs] == [plain.__dict__] * 2
    assert len(simulator.calls) == (1 if kind in KEPT else 2)
    rejected = [fact.reason for fact in told if isinstance(fact, EntryRejected)]
    assert rejected == ([] if kind in KEPT else ["cannot be written down in full"] * 2)


class Nested(BaseModel):
    inner: list[Taxed]


def test_outputs_are_compared_all_the_way_down():
    with pytest.raises(ValueError, match="does not read back"):
        of_structured(Nested(inner=[Taxed(price=1.0)]), Nested)


def test_a_structured_llm_is_enabled_by_the_one_inside(simulator, llms):
    llm = llms.openai()
    structured = llm.as_structured_llm(Plain)
    with pytest.raises(ConfigurationError, match="enable the one inside"):
        enable(structured, cache="memory://")
    enable(structured.llm, cache="memory://")
    raws = [structured.complete("Describe lamps.").raw for _ in range(2)]
    assert raws == [Plain(name="a word", price=0.5)] * 2
    assert len(simulator.calls) == 1
