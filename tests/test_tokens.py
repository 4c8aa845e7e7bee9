import hashlib
import os
import socket
import string
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations import tokens
from prefixcache_integrations.errors import ConfigurationError

MILLION = 1_000_000
O200K_URL = b"https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
CACHED_NAME = hashlib.sha1(O200K_URL, usedforsecurity=False).hexdigest()


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has loaded nothing, has an empty tiktoken cache, and no network."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(tokens, "_loaded", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    return tmp_path


@pytest.fixture
def nowhere(fresh, monkeypatch):
    """As `fresh`, and no llama-index-core either."""
    monkeypatch.setattr(tokens, "find_spec", lambda name: None)
    return fresh


@pytest.fixture(scope="module")
def o200k():
    tokenizer = tokens.load()
    if not tokenizer.exact:
        pytest.skip("o200k_base is not on this machine")
    return tokenizer


def test_o200k_base_counts_as_published(o200k):
    # The ids of "tiktoken is great!" are those of OpenAI's cookbook, "How to count tokens with tiktoken".
    assert list(o200k.encode("tiktoken is great!")) == [83, 8251, 2488, 382, 2212, 0]
    assert [o200k.count(text) for text in ("", "2 + 2 = 4", "antidisestablishmentarianism", "お誕生日おめでとう")] == [
        0,
        7,
        6,
        8,
    ]
    assert (o200k.name, o200k.exact) == ("o200k_base", True)


def test_special_tokens_in_text_are_text(o200k):
    assert 199_999 not in o200k.encode("<|endoftext|>")
    assert o200k.count("<|endoftext|>") == 7


@pytest.mark.parametrize("text", ["\ud800", "\udfff!", "ok \ud83d", "\ud800" * 1000])
def test_lone_surrogates_count_as_replacement_characters(o200k, text):
    replaced = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)

    assert list(o200k.encode(text)) == list(o200k.encode(replaced))
    assert o200k.count(text) == o200k.count(replaced)
    assert tokens.EstimateTokenizer().count(text) > 0


def test_the_copy_in_llama_index_core_is_found_without_importing_it_or_the_network(fresh):
    pytest.importorskip("tiktoken")
    if tokens.find_spec("llama_index") is None:
        pytest.skip("llama-index-core is not installed")
    code = (
        "import socket, sys; from prefixcache_integrations import tokens\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        "found = tokens.load()\n"
        "print(found.name, found.count('2 + 2 = 4'), 'llama_index.core' in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603 - our own code in a process that has imported nothing yet
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    )

    assert done.stdout.split() == ["o200k_base", "7", "False"]


def test_tiktokens_own_cache_is_used_and_a_damaged_file_in_it_left_alone(fresh, monkeypatch, o200k):
    carried = next(path / CACHED_NAME for path in tokens._directories() if (path / CACHED_NAME).exists())
    good = carried.read_bytes()
    monkeypatch.setattr(tokens, "find_spec", lambda name: None)
    copy = fresh / CACHED_NAME

    copy.write_bytes(good[:-1])
    assert tokens.load().exact is False
    assert copy.read_bytes() == good[:-1]

    copy.write_bytes(good)
    tokens._loaded.clear()
    assert tokens.load().exact is True


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base", "o200k_harmony", "gpt2", "p50k_base"])
def test_what_is_nowhere_on_this_machine_is_estimated(nowhere, encoding):
    found = tokens.load(encoding)

    assert (found.name, found.exact) == ("estimate", False)
    assert list(nowhere.iterdir()) == []


def test_a_missing_tiktoken_is_no_error(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)

    assert tokens.load().exact is False
    with pytest.raises(ConfigurationError, match="tokens"):
        tokens.load(download=True)


def test_what_makes_counts_exact_depends_on_what_is_there(fresh, monkeypatch):
    pytest.importorskip("tiktoken")
    assert "load(download=True)" in tokens.remedy()

    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert "extra 'tokens'" in tokens.remedy()


def test_downloading_is_left_to_tiktoken_and_only_on_request(nowhere):
    pytest.importorskip("tiktoken")
    tokens.load("cl100k_base")

    # The one place where the network is asked; here it refuses.
    with pytest.raises(AssertionError, match="network"):
        tokens.load("cl100k_base", download=True)


def test_an_unknown_encoding_is_named(fresh):
    pytest.importorskip("tiktoken")
    with pytest.raises(ConfigurationError, match="o300k"):
        tokens.load("o300k")


def test_every_thread_gets_the_same_tokenizer(fresh):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: tokens.load(), range(16)))

    assert len({id(tokenizer) for tokenizer in found}) == 1


def test_tiktoken_itself_keeps_its_own_reader(fresh):
    public = pytest.importorskip("tiktoken_ext.openai_public")
    before = public.load_tiktoken_bpe
    tokens.load()

    assert public.load_tiktoken_bpe is before
    assert public.o200k_base.__globals__["load_tiktoken_bpe"] is before


@pytest.mark.parametrize(
    "unit", ["a", " ", "\n", "\t", "1", ".", "é", "中", "Aa", "a\u0301", "\U0001f600", "\U0001f600!", "\ud800", "word "]
)
def test_a_million_characters_are_counted_at_once(o200k, unit):
    text = (unit * MILLION)[:MILLION]
    started = time.perf_counter()
    counted = o200k.count(text)

    assert time.perf_counter() - started < 30  # without the guard some of these take minutes
    assert counted > 0
    assert tokens.EstimateTokenizer().count(text) > 0


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.text(string.printable, max_size=300)


@given(texts)
def test_short_runs_are_encoded_exactly_as_tiktoken_does(o200k, text):
    spaced = " ".join(text[at : at + 200] for at in range(0, len(text), 200)) * 3

    runs = [len(run) for run in spaced.split()]
    if max(runs, default=0) <= 255:
        assert list(o200k.encode(spaced)) == list(o200k._encoding.encode_ordinary(spaced))


PIECES = ["word", "Ünï", "7", "123", "x1", ".", "/", "+", "_", "--", "中文", "、", "。", "(", "'s"]


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=10, max_size=40), min_size=8, max_size=20))
def test_long_runs_with_seams_are_encoded_exactly_too(o200k, stretches):
    text = "word.".join("".join(stretch) for stretch in stretches)

    assert list(o200k.encode(text)) == list(o200k._encoding.encode_ordinary(text))


def test_a_run_without_seams_costs_at_most_two_tokens_a_piece(o200k):
    text = "".join(string.ascii_letters[(at * at * 7 + at) % 52] for at in range(10_000))
    exact = len(o200k._encoding.encode_ordinary(text))

    assert 0 <= o200k.count(text) - exact <= 2 * (len(text) // 255)


@given(texts | st.text(max_size=300))
def test_a_count_is_the_length_of_the_encoding(text):
    for tokenizer in (tokens.load(), tokens.EstimateTokenizer()):
        assert tokenizer.count(text) == tokenizer.count(text) == len(tokenizer.encode(text))


def test_the_memory_of_counts_is_bounded():
    counts = tokens._Counts(size=3)
    asked = []

    def count(text):
        asked.append(text)
        return len(text)

    long = "x" * 100_000
    for text in ("a", "bb", long, "a", long, "ccc", "a"):
        assert counts.get(text, count) == len(text)
    assert asked == ["a", "bb", long, "ccc"]
    assert counts.get("bb", count) == 2
    assert asked[-1] == "bb"
    assert long not in counts._counts


@given(st.text(max_size=200), st.text(max_size=200))
def test_estimates_of_texts_that_begin_alike_begin_alike(left, right):
    estimate = tokens.EstimateTokenizer()
    head, whole = list(estimate.encode(left)), list(estimate.encode(left + right))
    shared = next((at for at, (one, other) in enumerate(zip(head, whole, strict=False)) if one != other), len(head))

    assert len(head) - shared <= 2
    assert all(0 <= token < 2**32 for token in whole)


@pytest.mark.parametrize("path", [tokens.__file__, Path(__file__).parent.parent / "pyproject.toml", __file__])
def test_estimates_are_within_a_quarter_on_code_and_configuration(o200k, path):
    text = Path(path).read_text()

    assert tokens.EstimateTokenizer().count(text) == pytest.approx(o200k.count(text), rel=0.25)


def test_estimates_take_about_four_characters_of_english_per_token():
    text = "The prompt cache keeps what the provider has already read, so that the next request starts where it ended. "

    assert tokens.EstimateTokenizer().count(text * 10) == pytest.approx(len(text) * 10 / 4.5, rel=0.15)
