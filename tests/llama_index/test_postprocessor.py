import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import Document, Settings, VectorStoreIndex, get_response_synthesizer
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.schema import ImageNode, IndexNode, MediaResource, Node, NodeWithScore, TextNode

from examples.llama_index.embedding import HashedWords
from prefixcache_integrations.llama_index import StableOrderPostprocessor, StablePromptHelper

ORDERS = ("document", "sticky", "cache_aware")


def node(text, score=1.0, start=0):
    return NodeWithScore(node=TextNode(text=text, start_char_idx=start), score=score)


def texts(nodes):
    return [found.node.text for found in nodes]


def ordered(processor, *names):
    return texts(processor.postprocess_nodes([node(name) for name in names]))


@given(st.lists(st.text(min_size=1, max_size=3), unique=True), st.randoms())
@pytest.mark.parametrize("order", ORDERS)
def test_the_same_nodes_come_in_the_same_order_whatever_their_scores_and_ids(order, names, chance):
    processor = StableOrderPostprocessor(order=order)
    first = texts(processor.postprocess_nodes([node(name, chance.random()) for name in names]))
    again = texts(
        processor.postprocess_nodes([node(name, chance.random()) for name in chance.sample(names, len(names))])
    )
    assert first == again
    assert sorted(first) == sorted(names)


@given(st.lists(st.text(min_size=1, max_size=2)))
@pytest.mark.parametrize("order", ORDERS)
def test_every_text_comes_once(order, names):
    assert sorted(ordered(StableOrderPostprocessor(order=order), *names)) == sorted(set(names))


def test_of_equal_texts_the_best_stays():
    nodes = [node("a", 0.1), node("a", 0.9), node("a", None)]
    [left] = StableOrderPostprocessor().postprocess_nodes(nodes)
    assert left.score == 0.9


MORE_THAN_TEXT = {
    "pictures": [ImageNode(text="", image="aGVsbG8="), ImageNode(text="", image="d29ybGQ=")],
    "pictures by address": [ImageNode(image_url="https://a.example"), ImageNode(image_url="https://b.example")],
    "resources": [Node(image_resource=MediaResource(data=data)) for data in (b"hello", b"world")],
    "indices": [IndexNode(text="a", index_id="1"), IndexNode(text="a", index_id="2")],
    "a picture and none": [ImageNode(text="a", image="aGVsbG8="), TextNode(text="a")],
}


@pytest.mark.parametrize("what", MORE_THAN_TEXT)
def test_nodes_are_copies_if_all_their_content_is_equal(what):
    nodes = [NodeWithScore(node=node, score=1.0) for node in MORE_THAN_TEXT[what]]
    copies = [NodeWithScore(node=found.node.model_copy(update={"id_": "copy"}), score=0.5) for found in nodes]
    kept = StableOrderPostprocessor().postprocess_nodes([*nodes, *copies])
    assert sorted(found.node.id_ for found in kept) == sorted(found.node.id_ for found in nodes)


def test_nodes_stand_as_in_their_documents():
    documents = [Document(text=f"{name} first. {name} second.", doc_id=name) for name in ("b", "a")]
    nodes = [
        NodeWithScore(
            node=TextNode(text=text, start_char_idx=start, relationships={"1": document.as_related_node_info()})
        )
        for document in documents
        for start, text in ((9, f"{document.doc_id} second."), (0, f"{document.doc_id} first."))
    ]
    random.shuffle(nodes)
    assert texts(StableOrderPostprocessor().postprocess_nodes(nodes)) == [
        "a first.",
        "a second.",
        "b first.",
        "b second.",
    ]


def test_sticky_nodes_keep_their_place_and_new_ones_follow():
    processor = StableOrderPostprocessor(order="sticky")
    first = ordered(processor, "x", "m")
    second = ordered(processor, "a", "x", "m")
    assert second == [*first, "a"]
    assert ordered(processor, "a", "x") == ["x", "a"]


def test_cache_aware_nodes_begin_as_the_longest_earlier_selection():
    processor = StableOrderPostprocessor(order="cache_aware")
    first = ordered(processor, "x", "m")
    longer = ordered(processor, "x", "m", "a")
    assert longer[:2] == first
    assert ordered(processor, "x", "m", "a", "b")[:3] == longer
    assert ordered(processor, "z", "b")[0] in "bz"


def test_memory_is_bounded():
    for order in ORDERS:
        processor = StableOrderPostprocessor(order=order, memory=3)
        for number in range(20):
            ordered(processor, *(f"{number}-{each}" for each in range(5)))
        assert len(processor._seen) <= 3
        assert len(processor._selections) <= 3


def test_an_index_built_twice_gives_one_order(llms):
    def retrieved():
        documents = [Document(text=f"Lamps are lamps, says page {number}.") for number in range(6)]
        index = VectorStoreIndex.from_documents(documents, embed_model=HashedWords())
        engine = index.as_query_engine(
            llm=llms.openai(), similarity_top_k=6, node_postprocessors=[StableOrderPostprocessor()]
        )
        return texts(engine.query("lamps").source_nodes)

    assert retrieved() == retrieved()


def test_nothing_stays_nothing_also_awaited():
    processor = StableOrderPostprocessor()
    assert processor.postprocess_nodes([]) == []
    assert texts(asyncio.run(processor.apostprocess_nodes([node("a")]))) == ["a"]


HANDBOOK = [NodeWithScore(node=TextNode(text=" ".join(f"word{number}" for number in range(3000))), score=1.0)]


def packs(simulator, llm, helper, question):
    Settings.prompt_helper = helper
    simulator.reset()
    get_response_synthesizer(llm=llm, response_mode="accumulate").synthesize(question, HANDBOOK)
    return [call.body["messages"][-1]["content"].partition("Given the context")[0] for call in simulator.calls]


@pytest.mark.parametrize(("kind", "alike"), [(PromptHelper, False), (StablePromptHelper, True)])
def test_packs_do_not_depend_on_the_question(simulator, llms, kind, alike):
    settings = {"context_window": 3000, "num_output": 256, "tokenizer": str.split}
    short, long = (
        packs(simulator, llms.openai(), kind(**settings), question) for question in ("How long?", "How long " * 40)
    )
    assert len(short) > 1
    assert (short == long) is alike


def test_a_question_longer_than_its_room_is_packed_as_plain_llama_index_does(simulator, llms):
    settings = {"context_window": 3000, "num_output": 256, "tokenizer": str.split}
    question = "How long " * 200
    plain = packs(simulator, llms.openai(), PromptHelper(**settings), question)
    assert packs(simulator, llms.openai(), StablePromptHelper(**settings, question_tokens=100), question) == plain
