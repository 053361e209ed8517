"""The object cache: whatever is wrong with it is a miss, and it keeps to its size."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcompiler.backends.llvm import object_cache
from tcompiler.backends.llvm.object_cache import CacheStatistics, ObjectCache, default_directory

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef0123456789abcdef"
PAYLOAD = bytes(range(256)) * 4


def key_of(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()[:32]


def entry_path(cache: ObjectCache, key: str = KEY) -> Path:
    return cache.directory / key[:2] / key[2:]


def test_put_and_get(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "deep" / "cache")
    assert cache.get(KEY) is None
    cache.put(KEY, PAYLOAD)
    assert cache.get(KEY) == PAYLOAD
    assert cache.get(key_of(1)) is None
    cache.put(KEY, b"")
    assert ObjectCache(cache.directory).get(KEY) == b""
    assert cache.statistics == CacheStatistics(hits=1, misses=2, writes=2)
    assert [path for path in cache.directory.rglob("*") if path.is_file()] == [entry_path(cache)]


def test_every_truncation_and_every_flipped_byte_is_a_miss(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, b"some object code")
    path = entry_path(cache)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert cache.get(KEY) is None
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        assert cache.get(KEY) is None
    path.write_bytes(whole + b"\0")
    assert cache.get(KEY) is None
    assert cache.statistics.damaged == cache.statistics.misses == 2 * len(whole) + 1
    cache.put(KEY, b"compiled anew")
    assert cache.get(KEY) == b"compiled anew"


def test_an_entry_of_another_key_is_a_miss(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, PAYLOAD)
    other = KEY[:-1] + "0"
    entry_path(cache).rename(entry_path(cache, other))
    assert cache.get(other) is None
    assert cache.statistics.damaged == 1


def test_another_version_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, PAYLOAD)
    monkeypatch.setattr(object_cache, "_VERSION", 2)
    assert cache.get(KEY) is None
    cache.put(KEY, b"of version 2")
    assert cache.get(KEY) == b"of version 2"


def test_an_unreadable_entry_is_a_miss(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    entry_path(cache).mkdir(parents=True)
    assert cache.get(KEY) is None
    cache.put(KEY, PAYLOAD)
    assert cache.statistics == CacheStatistics(misses=1, damaged=1, failed_writes=1)


@pytest.mark.parametrize("place", ["/proc/tcompiler", "{tmp}/file/cache"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    cache = ObjectCache(Path(place.format(tmp=tmp_path)))
    cache.put(KEY, PAYLOAD)
    assert cache.get(KEY) is None
    assert cache.statistics.failed_writes == cache.statistics.misses == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_read(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, PAYLOAD)
    folder = entry_path(cache).parent
    folder.chmod(0o500)
    try:
        assert cache.get(KEY) == PAYLOAD
        cache.put(KEY[:2] + key_of(1)[2:], PAYLOAD)
        assert cache.statistics.failed_writes == 1
    finally:
        folder.chmod(0o700)


def test_an_entry_whose_time_stamp_cannot_change_is_a_hit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, PAYLOAD)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(object_cache.os, "utime", refuse)
    assert cache.get(KEY) == PAYLOAD
    assert cache.statistics == CacheStatistics(hits=1, writes=1)


def test_a_full_disk(tmp_path: Path) -> None:
    program = f"""
import resource
from pathlib import Path
from tcompiler.backends.llvm.object_cache import ObjectCache
cache = ObjectCache(Path({str(tmp_path)!r}))
cache.put({KEY!r}, b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
cache.put({KEY!r}, bytes(5000))
cache.put({key_of(1)!r}, bytes(5000))
print(cache.get({KEY!r}), cache.get({key_of(1)!r}), cache.statistics.failed_writes)
"""
    assert run(program) == "b'small' None 2\n"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_size_limit(tmp_path: Path) -> None:
    limit = 256 * 4096
    cache = ObjectCache(tmp_path, limit)
    for i in range(2000):
        cache.put(key_of(i), bytes(1000))
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert limit // 2 < total <= limit
    assert cache.statistics.evicted == 2000 - sum(path.is_file() for path in tmp_path.rglob("*"))
    assert cache.get(key_of(1999)) == bytes(1000)


def test_the_entry_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, 256 * 4096)
    keys = [f"00{key_of(i)[2:]}" for i in range(4)]
    now = time.time()
    for age, key in zip((300, 200, 100), keys, strict=False):
        cache.put(key, bytes(1200))
        os.utime(entry_path(cache, key), (now - age, now - age))
    assert cache.get(keys[0]) is not None
    cache.put(keys[3], bytes(1200))
    assert [cache.get(key) is not None for key in keys] == [True, False, False, True]


def test_an_entry_larger_than_its_share_stays_until_the_next(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, 256)
    first, second = f"00{key_of(1)[2:]}", f"00{key_of(2)[2:]}"
    cache.put(first, PAYLOAD)
    assert cache.get(first) == PAYLOAD
    cache.put(second, PAYLOAD)
    assert cache.get(first) is None
    assert cache.get(second) == PAYLOAD


def test_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    folder = entry_path(cache).parent
    folder.mkdir()
    for name, age in ((".tmp-1-1-old", 7200), (".tmp-2-2-new", 60)):
        (folder / name).write_bytes(b"half an entry")
        os.utime(folder / name, (time.time() - age, time.time() - age))
    cache.put(KEY, PAYLOAD)
    assert sorted(path.name for path in folder.iterdir()) == [".tmp-2-2-new", KEY[2:]]


def test_eight_processes_on_one_cold_cache(tmp_path: Path) -> None:
    program = f"""
import hashlib, sys
from pathlib import Path
from tcompiler.backends.llvm.object_cache import ObjectCache
cache = ObjectCache(Path({str(tmp_path)!r}), limit=256 * 20000)
for round in range(3):
    for i in range(60):
        key = hashlib.sha256(str(i).encode()).hexdigest()[:32]
        payload = key.encode() * 200
        found = cache.get(key)
        assert found is None or found == payload
        cache.put(key, payload)
assert cache.get(key) == payload
s = cache.statistics
print(s.damaged, s.failed_writes, s.hits + s.misses)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["0 0 181\n"] * 8
    cache = ObjectCache(tmp_path)
    assert all(cache.get(key_of(i)) == key_of(i).encode() * 200 for i in range(60))
    assert not list(tmp_path.rglob(".tmp-*"))


def test_where_it_is_and_whether(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCOMPILER_CACHE_DIR", str(tmp_path))
    assert default_directory() == ObjectCache().directory == tmp_path / "objects"
    assert ObjectCache().enabled
    monkeypatch.setenv("TCOMPILER_CACHE", "0")
    cache = ObjectCache()
    cache.put(KEY, PAYLOAD)
    assert cache.get(KEY) is None
    assert not list(tmp_path.iterdir())
    assert cache.statistics == CacheStatistics()
    assert ObjectCache(enabled=True).enabled
    monkeypatch.delenv("TCOMPILER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert default_directory() == tmp_path / "home" / "tcompiler" / "objects"


@pytest.mark.parametrize("key", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "../" + "0" * 29])
def test_only_keys_are_keys(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError) as caught:
        ObjectCache(tmp_path).get(key)
    assert str(caught.value) == f"a cache key is 32 lower-case hexadecimal digits, not {key!r}"
