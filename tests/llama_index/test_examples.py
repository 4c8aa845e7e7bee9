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
