from contextlib import closing
from importlib import metadata

import pytest

from prefixcache_integrations.cli import doctor
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.stores.sqlite import SQLiteStore


@pytest.fixture
def installed(monkeypatch):
    """Say which versions are installed; the others are as they are."""

    def pretend(**versions):
        named = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(doctor, "version", lambda name: named[name] if name in named else metadata.version(name))

    return pretend


def checks(done):
    return {check["name"]: check for check in done.json["checks"]}


def test_a_healthy_environment_is_told_so(prefixcache, tmp_path):
    with closing(SQLiteStore(tmp_path / "a.db")) as store:
        store.get(EntryKey("", "nobody's"))
    done = prefixcache("doctor", "--store", f"sqlite:///{tmp_path / 'a.db'}", "--json")
    found = checks(done)

    assert found["Python"]["level"] == "ok"
    [store] = [check for name, check in found.items() if name.startswith("store")]
    assert store["level"] == "ok"
    assert "answers in" in store["detail"]


@pytest.mark.parametrize(("folder", "level"), [("new/folder", "note"), ("file", "problem")])
def test_no_file_is_made_to_see_whether_it_can_be_reached(prefixcache, tmp_path, folder, level):
    (tmp_path / "file").touch()
    done = prefixcache("doctor", "--store", f"sqlite:///{tmp_path / folder / 'a.db'}", "--json")
    [store] = [check for name, check in checks(done).items() if name.startswith("store")]

    assert (store["level"], done.json["ok"]) == (level, level == "note")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize(("anthropic", "sick"), [("2.11.0", True), ("1.0", True), ("0.125.0", False)])
def test_llama_index_beside_a_new_anthropic_is_known_to_be_bad(prefixcache, installed, anthropic, sick):
    installed(llama_index_llms_anthropic="0.12.3", anthropic=anthropic)
    done = prefixcache("doctor", "--json")

    assert ("llama-index-llms-anthropic with anthropic" in checks(done)) is sick
    if sick:
        assert (done.code, done.json["ok"]) == (3, False)
        assert "anthropic>=0.120,<1" in checks(done)["llama-index-llms-anthropic with anthropic"]["detail"]


def test_a_version_outside_the_bounds_is_a_problem(prefixcache, installed, monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda _: ['langchain-core<2,>=1.3.3; extra == "langchain"'])
    installed(langchain_core="1.2.9")
    done = prefixcache("doctor", "--json")

    assert checks(done)["langchain-core"]["level"] == "problem"
    assert done.code == 3


def test_a_store_that_cannot_be_reached_is_a_problem_and_keeps_its_password(prefixcache):
    done = prefixcache("doctor", "--store", "redis://user:hush@127.0.0.1:1/0")

    assert done.code == 3
    assert "127.0.0.1:1" in done.out
    assert "hush" not in done.out


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("1.2.3", ">=1.2,<2", True),
        ("2.0.0", ">=1.2,<2", False),
        ("1.2", ">=1.2.0", True),
        ("1.10", ">1.9", True),
        ("0.66b2", ">=0.51b0,<1", True),
        ("1.2", "!=1.2", False),
        ("1.2", "==1.2.0", True),
        ("1.2", "<=1.1", False),
        ("1.2", "", True),
    ],
)
def test_bounds_are_compared_by_number(version, bounds, fits):
    assert doctor._fits(version, bounds) is fits
