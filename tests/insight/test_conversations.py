from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT
from prefixcache_integrations.insight.conversations import Conversations


def request(*texts, system="You help.", tools=(), dialect=ANTHROPIC_MESSAGES):
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    body = {
        "model": "m",
        "messages": messages,
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in tools],
    }
    if dialect is OPENAI_CHAT:
        body["messages"].insert(0, {"role": "system", "content": system})
        body["tools"] = []
    else:
        body |= {"max_tokens": 1, "system": system}
    return dialect.decode_request(body)


def names(*placed):
    return [turn.conversation for turn in placed]


def test_a_turn_follows_the_one_it_adds_to():
    talks = Conversations()
    first = talks.place(request("a"), 0, "s")
    second = talks.place(request("a", "b", "c"), 1, "s")

    assert second.previous is first
    assert second.conversation == first.conversation == "s #1"


def test_it_is_told_whether_the_one_before_had_begun_to_answer():
    talks = Conversations()
    first = talks.place(request("a"), 0)
    second = talks.place(request("a", "b", "c"), 1)
    second.begun = True
    third = talks.place(request("a", "b", "c", "d", "e"), 2)

    assert (first.previous_begun, second.previous_begun, third.previous_begun) == (False, False, True)


def test_two_users_who_begin_alike_are_two_conversations():
    talks = Conversations()
    ann = talks.place(request("hi"), 0)
    bob = talks.place(request("hi"), 1)
    assert bob.previous is None
    ann_again = talks.place(request("hi", "hello Ann", "more"), 2)
    bob_again = talks.place(request("hi", "hello Bob", "more"), 3)

    assert ann_again.previous in (ann, bob)
    assert bob_again.previous in (ann, bob)
    assert ann_again.previous is not bob_again.previous


def test_without_a_session_a_shorter_request_begins_anew():
    talks = Conversations()
    talks.place(request("a", "b", "c"), 0)

    assert talks.place(request("a"), 1).previous is None


def test_in_a_session_a_history_that_lost_its_beginning_still_follows():
    talks = Conversations()
    talks.place(request("a", "b", "c", "d", "e"), 0, "s")

    assert talks.place(request("c", "d", "e", "f", "g"), 1, "s").previous is not None


def test_agents_that_share_a_session_and_a_question_do_not_follow_each_other():
    talks = Conversations()
    lead = talks.place(request("a", tools=("search",)), 0, "s")
    helper = talks.place(request("a", system="You name chats."), 1, "s")
    lead_again = talks.place(request("a", "b", "c", tools=("search",)), 2, "s")

    assert helper.previous is None
    assert lead_again.previous is lead


def test_prompts_of_one_session_that_share_no_words_do_not_follow_each_other():
    talks = Conversations()
    placed = [talks.place(request(f"summarise {number}"), number, "s") for number in range(3)]

    assert len(set(names(*placed))) == 3


def test_a_changed_system_prompt_is_still_the_same_conversation():
    talks = Conversations()
    for dialect in (ANTHROPIC_MESSAGES, OPENAI_CHAT):
        first = talks.place(request("a", system="Monday", dialect=dialect), 0, "s")
        second = talks.place(request("a", "b", "c", system="Tuesday", dialect=dialect), 1, "s")
        assert second.previous is first


def test_a_moved_marker_is_no_difference():
    talks = Conversations()
    mark = {"cache_control": {"type": "ephemeral"}}

    def marked(*texts):
        messages = [{"role": "user", "content": [{"type": "text", "text": text}]} for text in texts]
        messages[-1]["content"][0] |= mark
        return ANTHROPIC_MESSAGES.decode_request({"model": "m", "max_tokens": 1, "messages": messages})

    first = talks.place(marked("a"), 0)
    assert talks.place(marked("a", "b"), 1).previous is first


def test_branches_follow_what_they_both_go_on_with():
    talks = Conversations()
    trunk = talks.place(request("a", "b", "c"), 0, "s")
    one = talks.place(request("a", "b", "c", "d", "one"), 1, "s")
    two = talks.place(request("a", "b", "c", "d", "two"), 2, "s")
    three = talks.place(request("a", "b", "c", "d", "three"), 3, "s")
    two_again = talks.place(request("a", "b", "c", "d", "two", "e", "f"), 4, "s")
    one_again = talks.place(request("a", "b", "c", "d", "one", "e", "f"), 5, "s")

    assert [turn.previous for turn in (one, two, three, two_again, one_again)] == [trunk, trunk, trunk, two, one]
    assert len(set(names(trunk, one, two, three, two_again, one_again))) == 1
    assert (two.elapsed, three.elapsed, one_again.elapsed) == (1, 1, 4)  # each branch reads the trunk anew


def test_a_branch_of_what_was_never_sent_alone_follows_nothing():
    talks = Conversations()
    one = talks.place(request("a", "b", "one"), 0, "s")
    two = talks.place(request("a", "b", "two"), 1, "s")

    assert two.previous is None
    assert names(one) == names(two)


def test_a_question_asked_again_follows_itself():
    talks = Conversations()
    talks.place(request("a"), 0, "s")
    second = talks.place(request("a", "b", "c"), 1, "s")
    talks.place(request("a", "b", "c", "d", "e"), 2, "s")

    assert talks.place(request("a", "b", "c"), 3, "s").previous is second


def test_an_answer_rewritten_in_the_middle_is_no_branch():
    talks = Conversations()
    talks.place(request("a"), 0, "s")
    second = talks.place(request("a", "b", "c"), 1, "s")

    assert talks.place(request("a", "B", "c", "d", "e"), 2, "s").previous is second
    assert talks.preview(request("a", "B", "c"), 2, "s").previous is not None


def test_documents_in_another_order_are_no_branch():
    talks = Conversations()

    def asked(*documents):
        blocks = [{"type": "text", "text": text} for text in (*documents, "which?")]
        messages = [*({"role": role, "content": role} for role in ("user", "assistant")), {"role": "user"}]
        messages[-1]["content"] = blocks
        return ANTHROPIC_MESSAGES.decode_request({"model": "m", "max_tokens": 1, "messages": messages})

    first = talks.place(asked("one", "two"), 0, "s")
    assert talks.place(asked("two", "one"), 1, "s").previous is first


def test_a_long_conversation_does_not_keep_all_of_itself():
    talks = Conversations(max_followed=2)
    said = ["0"]
    for turn in range(20):
        last = talks.place(request(*said), turn, "s")
        said += [f"a{turn}", f"b{turn}"]

    assert len(talks._turns["session:s"]) == 3
    assert talks.place(request(*said), 20, "s").previous is last


def test_a_refused_branch_leaves_what_it_began_with_as_it_was():
    talks = Conversations()
    trunk = talks.place(request("a", "b", "c"), 0, "s")
    refused = talks.place(request("a", "b", "c", "d", "one"), 1, "s")
    talks.place(request("a", "b", "c", "d", "two"), 2, "s")
    talks.withdraw(refused)
    assert (trunk.followed, trunk.read_at) == (True, 2)

    again = talks.place(request("a", "b", "c", "d", "three"), 3, "s")
    talks.withdraw(again)
    assert (again.elapsed, trunk.followed, trunk.read_at) == (1, True, 2)


def test_more_branches_than_turns_are_kept_forget_what_was_gone_on_with_first():
    talks = Conversations(max_turns=4)
    branches = [talks.place(request("a", "b", f"{number}"), number, "s") for number in range(3)]
    longer = [talks.place(request("a", "b", f"{number}", "c", "d"), number, "s") for number in range(3)]
    longest = [talks.place(request("a", "b", f"{number}", "c", "d", "e", "f"), number, "s") for number in range(3)]

    assert [turn.previous for turn in longer] == branches
    assert [turn.previous for turn in longest] == longer


def test_a_refused_turn_gives_its_place_back():
    talks = Conversations()
    first = talks.place(request("a"), 0, "s")
    talks.withdraw(talks.place(request("a", "b", "c"), 1, "s"))

    assert talks.place(request("a", "B", "C"), 2, "s").previous is first


def test_what_is_laid_out_anew_keeps_its_place_and_its_name():
    talks = Conversations()
    first = talks.place(request("a"), 0)
    again = talks.place(request("a"), 0, instead_of=first)

    assert names(first, again) == ["conversation 1"] * 2
    assert talks.place(request("b"), 0).conversation == "conversation 2"


def test_only_the_latest_sessions_and_turns_are_remembered():
    talks = Conversations(max_sessions=2, max_turns=2)
    for number in range(50):
        talks.place(request(f"x{number}"), 0, str(number))
        talks.place(request(f"y{number}"), 0, "same")

    assert len(talks._turns) == 2
    assert len(talks._turns["session:same"]) == 2


def test_a_request_that_only_instructs_stands_alone():
    talks = Conversations()
    only = {"model": "m", "messages": [{"role": "system", "content": "You help."}]}

    assert [talks.place(OPENAI_CHAT.decode_request(only), n).previous for n in range(2)] == [None, None]


def test_what_is_said_is_bounded_in_bytes_and_counted_once():
    dropped = []
    talks = Conversations(max_bytes=100_000, dropped=dropped.append)
    said = ["word " * 4000]  # 20 kB, as text of its part and as it goes to the provider
    for turn in range(20):
        last = talks.place(request(*said), turn, "long")
        said += ["so", "and"]
    kept = len(talks._turns["session:long"])
    assert len(dropped) == 20 - kept

    talks.place(request("word " * 9000), 20, "other")

    assert last.request in dropped
    assert list(talks._turns) == ["session:other"]
    assert talks.place(request(*said), 21, "long").previous is None


def test_a_refused_turn_leaves_what_it_went_on_with_counted():
    talks = Conversations()
    first = talks.place(request("word " * 4000), 0, "s")
    counted = talks._bytes
    for _ in range(3):
        talks.withdraw(talks.place(request("word " * 4000, "b", "c"), 1, "s"))

    assert talks._bytes == counted == first.size
    talks.withdraw(first)
    assert talks._bytes == 0


def test_the_latest_is_kept_of_whatever_size():
    talks = Conversations(max_bytes=1000)
    for number in range(3):
        first = talks.place(request(f"{number}" * 4000), 0, "s")
    assert talks._turns["session:s"] == [first]

    assert talks.place(request("2" * 4000, "b", "c"), 1, "s").previous is first


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.booleans()), max_size=60))
def test_nothing_is_counted_of_what_is_no_longer_kept(steps):
    talks = Conversations(max_sessions=3, max_turns=4, max_followed=2, max_bytes=3000)
    histories = {}
    for number, (session, words, refused) in enumerate(steps):
        history = [*histories.get(session, ["hello"]), f"{number} " * words, "go on"] if words % 3 else ["hello"]
        turn = talks.place(request(*history), number, str(session))
        if refused:
            talks.withdraw(turn)
        else:
            histories[session] = history
        kept = [turn for turns in talks._turns.values() for turn in turns]
        assert talks._bytes == sum(turn.weight for turn in kept)
        assert talks._bytes <= 3000 or len(kept) == 1


def test_instructions_and_tools_that_are_others_at_each_turn_are_counted_at_each():
    talks, said = Conversations(max_bytes=100_000), ["hello"]
    for turn in range(20):
        latest = talks.place(request(*said, system=f"{turn} " + "word " * 4000, tools=["a", "b"]), turn, "s")
        said += ["so", "and"]
    kept = talks._turns["session:s"]

    assert len(kept) == 2  # of 20 kB each, as text of its part and as it goes to the provider
    assert latest.size < 50_000
    assert talks._bytes == sum(turn.weight for turn in kept) > 80_000


def test_a_turn_between_two_gives_back_nothing_that_the_later_one_says():
    talks = Conversations()
    first, between, last = (talks.place(request(*said), 1, "s") for said in ("a", "abc", "abcde"))
    assert last.size == last.weight
    talks.withdraw(between)
    assert talks._bytes == first.weight + last.weight
    assert first.weight < first.size


def test_what_another_turn_says_all_of_is_not_counted_again_for_one_that_says_less_of_it():
    talks, opening = Conversations(), request("a")
    first = talks.place(opening, 0, "s")
    talks.place(replace(opening, messages=request("a", "b", "c").messages), 1, "s")
    assert first.weight == 0
    talks.place(request("a", "x", "y", system="Another."), 2, "s")
    assert first.weight == 0
