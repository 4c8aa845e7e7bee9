"""URLs of stores, taken apart and checked before anything is opened.

What is not percent-encoded in a password may end up in any part of a URL: of what may be such a part nothing is quoted,
neither by an error nor by what it was raised from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from prefixcache_integrations.errors import ConfigurationError

ADVICE = "percent-encode what is no letter or digit in user names and passwords (/ is %2F, ? %3F, # %23, @ %40, [ %5B)"


class _Setting(NamedTuple):
    """What an option may be, in words and as a test, and how it is read."""

    words: str
    holds: Callable[[str], object]
    read: Callable[[str], object]


def _matching(words: str, pattern: str, read: Callable[[str], object] = str) -> _Setting:
    return _Setting(words, re.compile(pattern).fullmatch, read)


def _one_of(*words: str) -> _Setting:
    return _Setting(f"one of {', '.join(words)}", words.__contains__, str)


_COUNT = _matching("a whole number above 0", "0*[1-9][0-9]{0,17}", int)
_SECONDS = _matching("a number of seconds above 0", r"(?=.*[1-9])[0-9]{0,9}\.?[0-9]{0,9}", float)
_SWITCH = _Setting("true or false", ("true", "false").__contains__, "true".__eq__)
_TEXT = _Setting("text", bool, str)
_DATABASE = _matching("the number of a database", "[0-9]{1,9}")

_ALL = {"read_only": _SWITCH}
_OWN = {"max_bytes": _COUNT} | _ALL
_SERVED = {"timeout": _SECONDS, "memory_ttl": _SECONDS, "memory_bytes": _COUNT} | _ALL
_OURS = _SERVED | _OWN | {"connections": _COUNT}
_TLS = dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"), _TEXT) | {
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_check_hostname": _matching("true or false", "(?i)true|false|yes|no|1|0"),
}
_SENTINEL = dict.fromkeys(("sentinel_username", "sentinel_password"), _TEXT)
_LIBPQ = dict.fromkeys(
    ("sslrootcert", "sslcert", "sslkey", "passfile", "service", "options", "application_name", "host", "user"), _TEXT
) | {
    "dbname": _TEXT,
    "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": _one_of("disable", "prefer", "require"),
    "target_session_attrs": _one_of("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "port": _matching("a port, or one per host with commas between", "[0-9]{0,5}(,[0-9]{0,5})*"),
}


class _Kind(NamedTuple):
    """What a URL of one scheme has: ``hosts`` says how many, ``users`` and ``path`` what these look like."""

    example: str
    users: str
    hosts: range
    path: str
    options: dict[str, _Setting]


_NONE, _ONE, _MANY, _ANY = range(1), range(1, 2), range(1, 1000), range(1000)
_FILE = _Kind("sqlite:///relative/path.db or sqlite:////absolute/path.db", "", _NONE, "/.+", _OWN)
_REDIS = _Kind("redis://user:password@host:6379/0", ".*", _ONE, "/?|/[0-9]{1,9}", _SERVED | {"db": _DATABASE})
_SOCKET = _Kind("unix:///path/to/socket?db=0", ".*", _NONE, "/.+", _SERVED | {"db": _DATABASE})
_WATCHED = _Kind(
    "redis+sentinel://user:password@host:26379,host:26379/service/0", ".*", _MANY, "/+[^/@]+(/+[0-9]{0,9})?",
    _SERVED | _SENTINEL,
)  # fmt: skip
_CLUSTER = _Kind("redis+cluster://user:password@host:6379,host:6379 and no database", ".*", _MANY, "/?", _SERVED)
_POSTGRES = _Kind("postgresql://user:password@host:5432/database", r"[^@\s]*", _ANY, "(/[^/@]*)?", _OURS | _LIBPQ)

KINDS: Mapping[str, _Kind] = {
    "memory": _Kind("memory:// with no host and no path", "", _NONE, "", _OWN),
    "sqlite": _FILE,
    "redis": _REDIS,
    "rediss": _REDIS._replace(options=_REDIS.options | _TLS),
    "redis+sentinel": _WATCHED,
    "rediss+sentinel": _WATCHED._replace(options=_WATCHED.options | _TLS),
    "redis+cluster": _CLUSTER,
    "rediss+cluster": _CLUSTER._replace(options=_CLUSTER.options | _TLS),
    "unix": _SOCKET,
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
}

_HOST = re.compile(r"(?P<name>\[[0-9A-Za-z:.%]+\]|[^\[\]@:,\s\x00-\x1f]*)(:(?P<port>[0-9]{0,5}))?")
_LARGEST_PORT = 65535


class StoreUrl(NamedTuple):
    """A URL in parts, and its options as they are meant."""

    parts: SplitResult
    options: Mapping[str, Any]


def scheme(url: str) -> str:
    """Return the scheme of ``url`` if it names a kind of store. Raises `ConfigurationError`."""
    given: object = url
    if not isinstance(given, str):
        raise ConfigurationError(f"a store is named by a URL, as sqlite:///a.db, not by {type(given).__name__}")
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)", given)
    name = found[0].lower() if found else ""
    if name not in KINDS:
        known = ", ".join(f"{scheme}://" for scheme in KINDS)
        raise ConfigurationError(f"no store for {f'{name}://' if name else 'a URL of no scheme'}: known are {known}")
    return name


def taken_apart(url: str) -> SplitResult:
    """Return ``url`` in parts: its hosts and path are such as its kind has. Raises `ConfigurationError`."""
    kind, parts = KINDS[scheme(url)], _split(url)
    if parts is None or "#" in url:
        raise _wrong(kind)
    users, _, addresses = parts.netloc.rpartition("@")
    hosts = [_HOST.fullmatch(word) for word in addresses.split(",")] if addresses else []
    if len(hosts) not in kind.hosts or not all(host and _is_reachable(host, kind) for host in hosts):
        raise _wrong(kind)
    if not (re.fullmatch(kind.users, users, re.DOTALL) and re.fullmatch(kind.path, parts.path, re.DOTALL)):
        raise _wrong(kind)
    if kind.users and "@" in parts.query:  # it comes behind a password, of which a ? was not encoded
        raise _wrong(kind)
    if kind is _POSTGRES and not (parts.netloc or parts.path.strip("/") or parts.query):
        raise _wrong(kind)
    return parts


def read(url: str) -> StoreUrl:
    """Return ``url`` with its options, which its kind has, each once. Raises `ConfigurationError`."""
    parts = taken_apart(url)
    return StoreUrl(parts, dict(_options(parts)))


def server_url(url: str) -> str:
    """Return the URL of a store's server without those options that are the store's own. Raises as `read`."""
    parts, options = read(url)
    theirs = {name: value for name, value in options.items() if name not in _OURS}
    query = f"?{urlencode(theirs, quote_via=quote)}" if theirs else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"  # `urlunsplit` leaves // out where there is no host


def _split(url: str) -> SplitResult | None:
    with suppress(ValueError):  # which quotes what it is about
        return urlsplit(url)
    return None


def _wrong(kind: _Kind) -> ConfigurationError:
    advice = ADVICE if kind.users else "percent-encode ? (%3F), # (%23) and % (%25) in paths"
    return ConfigurationError(f"the URL of such a store looks like {kind.example}; {advice}")


def _is_reachable(host: re.Match[str], kind: _Kind) -> bool:
    port = host["port"]
    named = kind is _POSTGRES or _is_name(host["name"])  # libpq has directories for hosts, and defaults
    return named and (not port or 0 < int(port) <= _LARGEST_PORT)


def _is_name(host: str) -> bool:
    """Return whether ``host`` can be looked up; Python raises no `OSError` for what cannot."""
    with suppress(UnicodeError):
        return bool(unquote(host).encode("idna"))
    return False


def _options(parts: SplitResult) -> Iterator[tuple[str, object]]:
    known = KINDS[parts.scheme].options
    seen = {"db"} if parts.path.strip("/") and parts.scheme.startswith("redis") else set()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            raise ConfigurationError(f"{parts.scheme}:// has no option {name!r}, only {', '.join(known)}")
        if name in seen:
            raise ConfigurationError(f"the URL says twice what {name} is")
        seen.add(name)
        words, holds, meant = known[name]
        if not holds(value):
            raise ConfigurationError(f"{name} must be {words}")
        yield name, meant(value)
