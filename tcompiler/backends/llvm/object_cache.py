"""Object code on disk, so that what was compiled once is not compiled again.

One file per entry: a header (magic, version, key, length, SHA-256), then the payload. A file is written beside its
place and renamed into it, so readers see whole entries or none, whatever other processes do. The cache only ever helps:
whatever is wrong with a file or the folder counts as a miss.

Entries are spread over 256 folders by the first byte of their key, each of which keeps to its share of the size limit
by removing the entries used longest ago.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

DIRECTORY_VARIABLE = "TCOMPILER_CACHE_DIR"
"""Environment variable: the folder of all caches."""

SWITCH_VARIABLE = "TCOMPILER_CACHE"
"""Environment variable: `0` switches caches off."""

DEFAULT_LIMIT = 2 << 30
"""Bytes that entries may take on disk together."""

_HEADER = struct.Struct("<8sI32sQ32s")
_MAGIC = b"tc-objct"
_VERSION = 1
_SHARDS = 256
_KEY_DIGITS = frozenset("0123456789abcdef")
_TEMPORARY = ".tmp-"
_ABANDONED_AFTER = 3600.0
"""Seconds after which a temporary file is taken for one that a killed process left."""


@dataclass(slots=True)
class CacheStatistics:
    """What a cache did in this process.

    Attributes:
        hits: Entries found whole.
        misses: Keys without a usable entry; includes `damaged`.
        damaged: Entries that were there but truncated, altered, of another version or unreadable.
        writes: Entries written.
        failed_writes: Entries that could not be written (no permission, disk full).
        evicted: Entries removed to keep to the size limit.
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    writes: int = 0
    failed_writes: int = 0
    evicted: int = 0


class ObjectCache:
    """A cache of byte strings by 128-bit key; safe to use from several threads and processes at once.

    Args:
        directory: Folder of the entries; None means `objects` in `TCOMPILER_CACHE_DIR` or in the user's cache folder.
        limit: Bytes that entries may take on disk together. A folder's newest entry always stays.
        enabled: Whether to cache at all; None means unless `TCOMPILER_CACHE` is `0`.
    """

    def __init__(self, directory: Path | None = None, limit: int = DEFAULT_LIMIT, enabled: bool | None = None) -> None:
        self.enabled = os.environ.get(SWITCH_VARIABLE) != "0" if enabled is None else enabled
        self.directory = default_directory() if directory is None else directory
        self.statistics = CacheStatistics()
        self._shard_limit = limit // _SHARDS
        self._shard_bytes: dict[Path, int] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """Look an entry up.

        Args:
            key: 32 lower-case hexadecimal digits.

        Returns:
            The payload as it was put, or None if there is no whole entry of this key.
        """
        if not self.enabled:
            return None
        path = self._path(key)
        payload: bytes | None = None
        damaged = False
        try:
            payload = _unpack(key, path.read_bytes())
            damaged = payload is None
            if not damaged:
                os.utime(path)
        except FileNotFoundError:
            pass
        except OSError:
            # A read-only folder refuses the new time stamp, but what was read is good.
            damaged = payload is None
        with self._lock:
            self.statistics.hits += payload is not None
            self.statistics.misses += payload is None
            self.statistics.damaged += damaged
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store an entry, over any that is there; failing to is counted and otherwise without effect.

        Args:
            key: 32 lower-case hexadecimal digits.
            payload: What to store.
        """
        if not self.enabled:
            return
        path = self._path(key)
        temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}-{key}")
        data = _HEADER.pack(_MAGIC, _VERSION, key.encode(), len(payload), hashlib.sha256(payload).digest()) + payload
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:
            _remove(temporary)
            with self._lock:
                self.statistics.failed_writes += 1
            return
        with self._lock:
            self.statistics.writes += 1
            self._account(path, len(data))

    def _path(self, key: str) -> Path:
        if len(key) != 32 or not _KEY_DIGITS.issuperset(key):
            raise ValueError(f"a cache key is 32 lower-case hexadecimal digits, not {key!r}")
        return self.directory / key[:2] / key[2:]

    def _account(self, path: Path, added: int) -> None:
        """Keep the folder of a new entry to its share of the limit."""
        folder = path.parent
        known = self._shard_bytes.get(folder)
        if known is not None and known + added <= self._shard_limit:
            self._shard_bytes[folder] = known + added
            return
        entries: list[tuple[float, int, Path]] = []
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    state = entry.stat(follow_symlinks=False)
                    place = Path(entry.path)
                    if not entry.name.startswith(_TEMPORARY):
                        entries.append((state.st_mtime, state.st_size, place))
                    elif time.time() - state.st_mtime > _ABANDONED_AFTER:
                        _remove(place)
        except OSError:
            return  # Somebody removes files beside us; the next entry looks again.
        total = sum(size for _, size, _ in entries)
        if total > self._shard_limit:
            # Down to nine tenths, so that not every further entry scans the folder.
            for _, size, place in sorted(entries):
                if total <= self._shard_limit * 9 // 10:
                    break
                if place != path and _remove(place):
                    total -= size
                    self.statistics.evicted += 1
        self._shard_bytes[folder] = total


def default_directory() -> Path:
    """Return the folder of object code: `objects` in `TCOMPILER_CACHE_DIR`, else in the user's cache folder."""
    configured = os.environ.get(DIRECTORY_VARIABLE)
    if configured:
        return Path(configured) / "objects"
    import platformdirs

    return platformdirs.user_cache_path("tcompiler") / "objects"


def _unpack(key: str, data: bytes) -> bytes | None:
    if len(data) < _HEADER.size:
        return None
    magic, version, stored_key, length, digest = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    if (magic, version, stored_key, length) != (_MAGIC, _VERSION, key.encode(), len(payload)):
        return None
    return payload if hashlib.sha256(payload).digest() == digest else None


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
