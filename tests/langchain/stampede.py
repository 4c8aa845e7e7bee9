"""Processes that all ask the same at the same moment: ``python -m tests.langchain.stampede URL FOLDER PROCESSES THREADS [die]``.

Every call leaves a file in FOLDER. With ``die`` one more process asks first, and is killed in the middle of its call.
Exits with the number of processes that did not end as they should.
"""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from langchain_core.language_models import SimpleChatModel

from prefixcache_integrations.langchain import ResponseCache

url, folder, processes, threads, *how = sys.argv[1:]
CALL_SECONDS = 0.4


class Chat(SimpleChatModel):
    @property
    def _llm_type(self):
        return "chat"

    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        Path(folder, f"call-{time.monotonic_ns()}-{os.getpid()}").touch()
        time.sleep(CALL_SECONDS)
        return "answer"


def wait_for(pattern, number):
    while len(list(Path(folder).glob(pattern))) < number:
        time.sleep(0.002)


def ask(start):
    cache = ResponseCache.from_url(url)
    model = Chat(cache=cache)
    cache.lookup("something else", "entirely")  # opens files and connections
    cache.clear()
    Path(folder, f"ready-{os.getpid()}").touch()
    wait_for(start, 1)
    with ThreadPoolExecutor(int(threads)) as pool:
        answers = list(pool.map(lambda _: model.invoke("hi").content, range(int(threads))))
    cache.close()
    return answers == ["answer"] * int(threads)


def fork(start):
    """Ask in a new process; importing everything once is what takes long."""
    process = os.fork()
    if process == 0:
        os._exit(0 if ask(start) else 1)
    return process


def ended(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main():
    others = [fork("go") for _ in range(int(processes))]
    wait_for("ready-*", len(others))
    wrong = 0
    if how:
        leader = fork("ready-*")
        wait_for("call-*", 1)
    Path(folder, "go").touch()
    if how:
        time.sleep(CALL_SECONDS / 2)
        os.kill(leader, signal.SIGKILL)
        wrong = ended(leader) != -signal.SIGKILL
    sys.exit(wrong + sum(ended(process) != 0 for process in others))


main()
