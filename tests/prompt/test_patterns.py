"""What looks as if it changes from call to call, and what only people write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations.prompt.patterns import patterns

law = settings(max_examples=200)

CERTAIN = [
    ("Current time: «2026-01-05 08:17:23»", "timestamp"),
    ("Current time: «2026-01-05T08:17:23.123456+00:00». Be kind.", "timestamp"),
    ("current_date_time = 2026 and it is now «2026-01-05T08:17Z»", "timestamp"),
    ("Now: «Mon, 5 January 2026, 08:17:23»", "timestamp"),
    ("Today is «Monday, January 5th, 2026 at 8:17 AM».", "timestamp"),
    ("As of «Mon Jan  5 08:17:23 UTC 2026» the shop is open.", "timestamp"),
    ("You sell shoes, and it is «2026-01-05 08:17:23».", "timestamp"),
    ("[«2026-01-05 08:17:23»] You are a clerk.", "timestamp"),
    ("The time is «05.01.2026 08:17:23».", "timestamp"),
    ("The current time is «08:17:23 UTC».", "time"),
    ("It is now «8:17 pm».", "time"),
    ("Timestamp: «1767600000»", "epoch"),
    ("time: «1767600000.123»", "epoch"),
    ("Calls <function look_up «at 0x7f9de97a6660»>.", "address"),
    ("Calls <function make.<locals>.look_up «at 0x7f9de97a6660»>.", "address"),
    ("<bound method Shop.find of <shop.Shop object «at 0x7f9de97a6660»>>", "address"),
    ('<code object f «at 0x7f9de97a6660», file "shop.py", line 1>', "address"),
]

POSSIBLE = [
    ("Today is «2026-01-05».", "date"),
    ("today's date is «January 5, 2026»", "date"),
    ("The current date: «Monday, 5 Jan. 2026».", "date"),
    ("Date: «1/5/2026»", "date"),
    ("It is now «10:00».", "time"),
    ("Current time: «2026-01-05 15:00:00 EST».", "timestamp"),
    ('Answer like {"created_at": "«2024-05-02T04:38:01»"}.', "timestamp"),
    ("in ISO 8601, such as «2024-03-05T15:31:50.701Z»", "timestamp"),
    ("a Unix time such as epoch «1712345678»", "epoch"),
    ("Session «4f1c2a9e-6a54-4f0e-9d0a-2b7c9a1d3e5f» began.", "uuid"),
    ("request id: «req_8f3k2»", "id"),
    ("The user ID is `«aarav_garcia_1177»`", "id"),
    ("trace-id=«00f067aa0ba902b7»", "id"),
    ("Digest: «9f86d081884c7d659a2feaa0c55ad015a3bf4f1b»", "id"),
    ("This is turn number «7».", "counter"),
    ("Request #«12,» please", "counter"),
    ("attempt 3 of 5; call count: «41»", "counter"),
]

ORDINARY = [
    "Version 3.11.7 or newer, openai>=2.3.1,<4.",
    "It costs 12.99 euros, or 1,299 for a hundred; above $300 ask first.",
    "See section 4.2.1, chapter 12 and page 2026.",
    "Call +49 221 4711-0815 or (555) 123-4567, extension 12.",
    "Open from 9:00 to 17:30, Monday to Friday, and 10:15-12:45 on Saturdays.",
    "The law of 1 January 1967 was changed in March 2020 and on 2021-06-30.",
    "It was founded in 1998; from 2004 on it had 1,700 people.",
    "1. Find the order.\n2. Look it up.\n3. Say what you change.\n10) Stop.",
    "Answers have at most 3 sentences and 280 characters; retry 2 times.",
    "IPv4 192.168.0.1, port 8080, mask 255.255.255.0, IPv6 fe80::1ff:fe23:4567:890a.",
    "Cards such as 4111 1111 1111 1111 are refused; so is IBAN DE89 3704 0044 0532 0130 00.",
    "Order numbers look like A-4711, B-2040 or 00340434161094.",
    "The register at 0x40021000 -> next; flags 0x1F and 0xDEADBEEF.",
    "https://cloud.example.com/content/a2b18c153837bce00a5b4de496e4b4ca64bbf56e/page",
    "A request has a number, a turn has a user, and the session id is a word.",
    "Colours are #12ab34 and rgb(18, 171, 52).",
    "Ratios of 16:9, 4:3 and a score of 2:1; John 3:16.",
    "Use temperature 0.7, top_p 0.95, max_tokens 1024 and seed 1767600000.",
    "Latitude 50.9375, longitude 6.9603; 68.5 kg; 37,5 °C.",
    "Patience is now version 2 of 3.",
    "Times of delivery: 3-5 working days, at most 14.",
    "Datetime fields are written as YYYY-MM-DD HH:MM:SS.",
    "",
]


def marked(text: str) -> tuple[str, int, int]:
    start, end = text.index("«"), text.index("»") - 1
    return text.replace("«", "").replace("»", ""), start, end


@pytest.mark.parametrize(("text", "kind"), CERTAIN)
def test_what_only_a_clock_or_a_running_program_writes(text: str, kind: str) -> None:
    said, start, end = marked(text)
    (found,) = [each for each in patterns(said) if each.kind == kind]
    assert (found.start, found.end, found.certain) == (start, end, True)


@pytest.mark.parametrize(("text", "kind"), POSSIBLE)
def test_what_may_change_and_may_be_an_example(text: str, kind: str) -> None:
    said, start, end = marked(text.replace("12,»", "12»,"))
    found = [each for each in patterns(said) if each.kind == kind][-1]
    assert (found.start, found.end, found.certain) == (start, end, False)


@pytest.mark.parametrize("text", ORDINARY)
def test_what_people_write_is_left_alone(text: str) -> None:
    assert [text[each.start : each.end] for each in patterns(text)] == []


def test_a_text_of_many_lines_has_all_of_them_in_order() -> None:
    text = f"Now: 2026-01-05 08:17:23\n{'Be kind. ' * 50}\nToday is 2026-01-05, turn #3.\n\nUser id: ab-12\n"
    assert [(text[each.start : each.end], each.kind) for each in patterns(text)] == [
        ("2026-01-05 08:17:23", "timestamp"),
        ("2026-01-05", "date"),
        ("3", "counter"),
        ("ab-12", "id"),
    ]


def test_only_the_first_words_of_all_may_be_a_time_that_is_not_said_to_be_one() -> None:
    log = "2026-01-05 08:17:23 started\n2026-01-05 08:17:24 stopped\n"
    assert [each.certain for each in patterns(log)] == [True, False]
    assert [each.certain for each in patterns("Logs:\n" + log)] == [False, False]


_PIECES = st.one_of(
    st.sampled_from([text for text, _ in CERTAIN + POSSIBLE] + ORDINARY).map(
        lambda text: text.translate({171: "", 187: ""})
    ),
    st.text(max_size=30),
    st.text("0123456789 -:.T/\nabcx", max_size=60),
)
_TEXTS = st.lists(_PIECES, max_size=6).map(" ".join)


@law
@given(_TEXTS)
def test_patterns_are_pieces_of_the_text_in_order_and_apart(text: str) -> None:
    end = 0
    for each in patterns(text):
        assert end <= each.start < each.end <= len(text)
        assert any(character.isdigit() for character in text[each.start : each.end])
        end = each.end


@law
@given(_TEXTS, st.integers(0, 4), st.text("abc def\n", max_size=200))
def test_text_far_away_makes_no_difference(text: str, lines: int, far: str) -> None:
    behind = "\n" * lines + far
    alone = [each for each in patterns(text) if not each.certain]
    assert [each for each in patterns(f"{text}\n{behind}") if not each.certain] == alone
    shifted = [(each.start - len(far) - 1, each.kind) for each in patterns(f"{far}\n{text}")]
    assert shifted == [(each.start, each.kind) for each in patterns(text)]


@law
@given(st.text("ab \n", max_size=300), _TEXTS)
def test_the_same_text_has_the_same_patterns_whatever_was_asked_before(before: str, text: str) -> None:
    first = patterns(text)
    patterns(before + text)
    assert patterns(text) == first
