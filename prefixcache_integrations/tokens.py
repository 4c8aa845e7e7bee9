"""Tokenisers: a published encoding found on this machine, else an estimate that says so.

The encoding comes from tiktoken's own cache, else from the copy that llama-index-core carries; nothing is downloaded
unless asked, no environment variable is set, no file is written or deleted.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
import threading
import types
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from prefixcache_integrations.canonical import Tokenizer
from prefixcache_integrations.errors import ConfigurationError

if TYPE_CHECKING:
    from tiktoken import Encoding

_lock = threading.Lock()
_loaded: dict[str, Tokenizer] = {}


def load(encoding: str = "o200k_base", *, download: bool = False) -> Tokenizer:
    """Return the tokeniser called ``encoding``, or an estimate (``exact`` is false) where it is not on this machine.

    The same object for every caller in the process. ``download`` lets tiktoken fetch what is missing into its
    cache; then a network error passes through.

    Raises:
        ConfigurationError: tiktoken knows no such encoding, or ``download`` is asked for without tiktoken.
    """
    with _lock:
        tokenizer = _loaded.get(encoding)
        if tokenizer is None or (download and not tokenizer.exact):
            tokenizer = _loaded[encoding] = _open(encoding, download=download)
        return tokenizer


def chosen(tokenizer: Tokenizer | None) -> Tokenizer:
    """Return ``tokenizer``, the best at hand if ``None``. Raises `ConfigurationError` for what counts no tokens."""
    if tokenizer is None:
        return load()
    if not all(callable(getattr(tokenizer, name, None)) for name in ("encode", "count")) or not hasattr(
        tokenizer, "exact"
    ):
        raise ConfigurationError(f"a tokenizer is one of `tokens.load` or the like, not {tokenizer!r}")
    return tokenizer


def remedy() -> str:
    """Return what makes counts exact on a machine where they are estimates."""
    if find_spec("tiktoken") is None:
        return "install the extra 'tokens'"
    return "the encoding is not on this machine: prefixcache_integrations.tokens.load(download=True) fetches it, once"


def _open(encoding: str, *, download: bool) -> Tokenizer:
    try:
        import tiktoken
    except ImportError as missing:
        if download:
            raise ConfigurationError("Downloading an encoding needs the extra 'tokens'") from missing
        return EstimateTokenizer()
    constructor = _offline_constructors().get(encoding)
    if constructor is None:
        raise ConfigurationError(f"tiktoken knows no encoding {encoding!r}")
    try:
        return TiktokenTokenizer(tiktoken.Encoding(**constructor()))
    except FileNotFoundError:
        return TiktokenTokenizer(tiktoken.get_encoding(encoding)) if download else EstimateTokenizer()


def _offline_constructors() -> dict[str, types.FunctionType]:
    """Return twins of tiktoken's constructors that read merge ranks with `_ranks`.

    tiktoken's own reader downloads a file that is not there, and deletes one whose hash is wrong. The twins
    have globals of their own, so that other users of tiktoken keep that reader.
    """
    public = import_module("tiktoken_ext.openai_public")
    names = {**vars(public), "load_tiktoken_bpe": _ranks, "data_gym_to_mergeable_bpe_ranks": _ranks}
    twins = {
        encoding: types.FunctionType(constructor.__code__, names)
        for encoding, constructor in public.ENCODING_CONSTRUCTORS.items()
    }
    names.update({twin.__name__: twin for twin in twins.values()})
    return twins


def _ranks(url: str = "", expected_hash: str = "", **_: str) -> dict[bytes, int]:
    """Read the merge ranks published at ``url`` from the first local copy with the expected SHA-256."""
    name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    for directory in _directories():
        try:
            content = (directory / name).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == expected_hash:
            pairs = (line.split() for line in content.splitlines() if line)
            return {base64.b64decode(token): int(rank) for token, rank in pairs}
    raise FileNotFoundError(url)


def _directories() -> Iterator[Path]:
    """Yield the places to look in, in tiktoken's order of precedence, then llama-index-core's."""
    default = str(Path(tempfile.gettempdir(), "data-gym-cache"))
    own = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    if own:  # empty: tiktoken's cache is switched off
        yield Path(own)
    try:
        spec = find_spec("llama_index.core")
    except (ImportError, ValueError):
        return
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "_static" / "tiktoken_cache"


class _Counts:
    """The counts of the texts seen last; bounded, and keyed by a digest where the text is long."""

    def __init__(self, size: int = 8192) -> None:
        self._size = size
        self._counts: OrderedDict[str | bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str, count: Callable[[str], int]) -> int:
        key = text if len(text) <= _LONGEST_KEY else _digest(text)
        with self._lock:
            known = self._counts.get(key)
            if known is not None:
                self._counts.move_to_end(key)
                return known
        number = count(text)
        with self._lock:
            self._counts[key] = number
            if len(self._counts) > self._size:
                self._counts.popitem(last=False)
        return number


_LONGEST_KEY = 256


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class TiktokenTokenizer:
    """A published encoding. Text that spells a special token is ordinary text; a lone surrogate counts as U+FFFD.

    A run without whitespace, or of nothing else, of more than 255 characters is encoded in pieces, because
    tiktoken 0.12 takes time in the square of a run's length and 0.14 still refuses a million blanks. Pieces end
    where the encoding splits anyway, between a word and a punctuation mark or a digit. Only where 255
    characters have no such place may a piece cost a token or two.
    """

    exact = True

    def __init__(self, encoding: Encoding) -> None:
        self.name = encoding.name
        self._encoding = encoding
        self._counts = _Counts()

    def encode(self, text: str) -> Sequence[int]:
        """Return the token ids of ``text``."""
        if len(text) <= _LONGEST_RUN:
            return self._encoding.encode_ordinary(text)
        return [token for piece in _pieces(text) for token in self._encoding.encode_ordinary(piece)]

    def count(self, text: str) -> int:
        """Return the number of tokens of ``text``, remembered for the texts seen last."""
        return self._counts.get(text, lambda unseen: len(self.encode(unseen)))


_LONGEST_RUN = 255  # a multiple of three: digits go by threes
_LONG_RUN = re.compile(rf"(?<!\S)\S{{{_LONGEST_RUN + 1},}}|(?<!\s)\s{{{_LONGEST_RUN + 1},}}")
# Where every published encoding since cl100k ends a piece, whatever follows. The apostrophe is left out: contractions.
_SEAM = re.compile(
    r"(?<=[^\W_])(?=[!-&(-/:-@\[-`{-~\u3001-\u3003\u3008-\u3011\uff01-\uff06\uff08-\uff0f\uff1a-\uff1f])"
    r"|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)


def _pieces(text: str) -> Iterator[str]:
    start = 0
    for run in _LONG_RUN.finditer(text):
        at = run.start()
        while run.end() - at > _LONGEST_RUN:
            at = _cut(text, at)
            yield text[start:at]
            start = at
    yield text[start:]


def _cut(text: str, at: int) -> int:
    """Return the last seam in the 255 characters after ``at``, their end where there is none."""
    end = at + _LONGEST_RUN
    last = end
    for seam in _SEAM.finditer(text, at + 1, end + 1):
        last = seam.start()
    return last


class EstimateTokenizer:
    """About four characters of English per token, in pieces like those of a real encoding.

    The ids are checksums of the pieces: the same on every machine, and equal up to the last piece or two for
    texts that begin alike.
    """

    name = "estimate"
    exact = False

    def __init__(self) -> None:
        self._counts = _Counts()

    def encode(self, text: str) -> Sequence[int]:
        """Return one id per piece of ``text``."""
        return [zlib.crc32(piece.encode("utf-8", "surrogatepass")) for piece in _WORD_PIECE.findall(text)]

    def count(self, text: str) -> int:
        """Return the number of pieces of ``text``, remembered for the texts seen last."""
        return self._counts.get(text, lambda unseen: len(_WORD_PIECE.findall(unseen)))


# Words with what stands before them, digits by threes, other scripts by twos, blanks and punctuation in short runs.
_WORD_PIECE = re.compile(
    r"(?:[^\w\n]|_)?[A-Za-z\u00c0-\u024f]{1,9}|\d{1,3}|[^\W\d_]{1,2}"
    r"|[^\S\n]{0,16}\n{1,16}| {1,80}(?= )|[^\S\n]{1,16}| ?[^\w\s]{1,3}|_"
)
