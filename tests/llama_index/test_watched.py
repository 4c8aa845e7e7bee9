import pytest
from llama_index.core.llms import ChatMessage

from prefixcache_integrations.events import PrefixBroken
from prefixcache_integrations.llama_index import enable

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120


@pytest.mark.parametrize("name", ["claude", "openai", "responses"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_turn_that_loses_its_prefix_is_told_where_requests_are_laid_out(llms, name, streamed):
    events = []
    llm = enable(getattr(llms, name)(), layout="canonical", observers=[events.append])
    history = []
    for number, system in enumerate([LONG, LONG, "Friday. " + LONG]):
        history.append(ChatMessage(role="user", content=f"Question {number}"))
        asked = [ChatMessage(role="system", content=system), *history]
        answer = list(llm.stream_chat(asked))[-1] if streamed else llm.chat(asked)
        history.append(ChatMessage(role="assistant", content=answer.message.content))

    [broken] = [event for event in events if isinstance(event, PrefixBroken)]
    assert broken.reason == "system_changed"
    assert broken.lost_tokens > 1000
