"""The example apps as people run them."""

import re
import sys

import pytest

from examples.llama_index import __main__ as example

LINE = re.compile(
    r"(\w+) +(first|again): 3 answers, (\d+) calls, (\d+) from the store; ([\d,]+) input tokens, ([\d,]+)"
)


@pytest.mark.parametrize("app", example.APPS)
def test_an_app_asked_again_calls_nothing(monkeypatch, capsys, app):
    monkeypatch.setattr(sys, "argv", ["llama_index", app])
    example.main()
    first, again = LINE.findall(capsys.readouterr().out)
    calls = int(first[2])
    assert (first[0], again[0]) == (app, app)
    assert calls >= 3
    assert (int(again[2]), int(again[3])) == (0, calls)


@pytest.mark.parametrize("app", ["chat", "agent"])
def test_conversations_read_what_they_wrote_before(monkeypatch, capsys, app):
    monkeypatch.setattr(sys, "argv", ["llama_index", app])
    example.main()
    first, _ = LINE.findall(capsys.readouterr().out)
    assert int(first[5].replace(",", "")) > 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--live"], "--live needs a key: set ANTHROPIC_API_KEY"),
        (["querry"], "there is no app 'querry': choose from query, chat, agent"),
        (["--alive"], "unrecognized arguments: --alive"),
    ],
)
def test_what_cannot_be_run_is_said(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["llama_index", *arguments])
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(SystemExit) as ended:
        example.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_live_calls_claude_with_the_key(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["llama_index", "--live", "chat"])
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key")
    assert (example.read_arguments().apps, example.read_arguments().live) == (["chat"], True)
    with example.opened_llm(live=True) as llm:
        assert (llm._client.api_key, str(llm._client.base_url)) == ("a key", "https://api.anthropic.com")
