"""Leases between processes of one host: a locked file each, unlocked by the kernel when its holder dies."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from prefixcache_integrations.flows.flights import UNSHARED, Lease
from prefixcache_integrations.flows.op import EntryKey

try:
    import fcntl
except ModuleNotFoundError:  # not a POSIX system: every process leads its own calls
    _LOCKS = False
else:
    _LOCKS = True


class _FileLease:
    """A file that is there, and locked, as long as the lease is held."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self._process = os.getpid()

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if self._process == os.getpid():  # a forked child holds a copy, not the lease
            with suppress(OSError):
                self._path.unlink()
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where a child has inherited it
        with suppress(OSError):
            os.close(descriptor)

    __del__ = release


def file_lease(folder: Path, key: EntryKey) -> Lease | None:
    """Return the lease on ``key`` among the users of ``folder``, ``None`` while another holds it. Raises `OSError`.

    Files of holders that were killed stay behind, empty, until their key is asked for again.
    """
    if not _LOCKS:
        return UNSHARED
    path = folder / _name(key)
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = _is_at(path, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if current:
            return _FileLease(path, descriptor)
        os.close(descriptor)  # locked after its holder had removed it: others lock the next file of that name


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _name(key: EntryKey) -> str:
    namespace, digest = key.namespace.encode("utf-8", "surrogatepass"), key.digest.encode("utf-8", "surrogatepass")
    return blake2b(b"%d %b%b" % (len(namespace), namespace, digest), digest_size=16).hexdigest()
