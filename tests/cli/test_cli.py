"""``prefixcache`` as a user runs it: in a process of its own."""

import re
import signal
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import httpx2
import pytest

COMMAND = [sys.executable, "-c", "from prefixcache_integrations.cli import main; main()"]


def run(*arguments, code=None):
    command = COMMAND if code is None else [sys.executable, "-c", code]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own command


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_simulate_says_where_it_serves_and_stops_cleanly(stop):
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, "simulate", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        urls = dict(re.findall(r"(\w+) \w+=(http://127\.0\.0\.1:\d+\S*)", line))
        assert urls.keys() == {"Anthropic", "OpenAI", "Azure"}
        assert "exact tokens (o200k_base)" in line or "ESTIMATED tokens" in line
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
        with httpx2.Client(headers={"authorization": "Bearer any"}) as client:
            answer = client.post(urls["OpenAI"] + "/chat/completions", json=body)
            assert answer.json()["choices"][0]["message"]["content"] == "hello"
            moved = client.post(urls["Anthropic"] + "/_simulator/clock", json={"advance": 301})
            assert moved.json()["now"] > 301
        process.send_signal(stop)
        rest, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, rest, errors) == (0, "Stopped after 1 calls.\n", "")


def test_a_taken_port_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("simulate", "--port", str(port))
    assert done.returncode == 1
    assert re.fullmatch(rf"Cannot serve on 127\.0\.0\.1:{port}: .*\n", done.stderr)


def test_another_host_is_refused():
    done = run("simulate", "--host", "192.168.1.1", "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "loopback" in done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich", "starlette", "uvicorn"])
def test_a_missing_extra_is_named_in_one_line(missing):
    hide = (
        "import importlib.util as util, sys\n"
        "real = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {missing!r} else real(name, *rest)\n"
        "from prefixcache_integrations.cli import main\n"
        "main()"
    )
    done = run("simulate", code=hide)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"prefixcache needs {missing}: pip install 'prefixcache-integrations[cli,server]'\n"


def test_the_version_is_the_distributions():
    try:
        told = version("prefixcache-integrations")
    except PackageNotFoundError:
        told = "(not installed: run from its sources)"
    assert run("--version").stdout == f"prefixcache-integrations {told}\n"
