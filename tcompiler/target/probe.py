"""Facts about the machine that this process runs on, from LLVM and the operating system."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import llvmlite.binding as llvm

from tcompiler.target.target import KIB, MIB

_CACHE_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")
_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
_SYSCONF = {1: "SC_LEVEL1_DCACHE_SIZE", 2: "SC_LEVEL2_CACHE_SIZE", 3: "SC_LEVEL3_CACHE_SIZE"}
# What an x86-64 of the last ten years has at least; the third level may be hidden or absent.
_DEFAULT_CACHES = {1: 32 * KIB, 2: 256 * KIB, 3: 0}
# What LLVM may use by itself for arithmetic, loads and stores; the rest (system, cryptography, atomics) would only
# make code for one machine look unfit for another.
_CODE_FEATURES = re.compile(
    r"s?sse.*|avx.*|amx.*|fma4?|f16c|bmi2?|cmov|lzcnt|popcnt|movbe|gfni|xop|tbm|egpr|ndd|nf|cf|zu|ccmp|ppx|push2pop2"
)
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": 1024 * MIB}


def triple() -> str:
    """LLVM's triple of this process."""
    return str(llvm.get_process_triple())


def cpu_name() -> str:
    """LLVM's name of the processor; "generic" if it does not know it."""
    return str(llvm.get_host_cpu_name())


def features() -> tuple[str, ...]:
    """LLVM's feature flags of the processor that matter to generated code, "+avx2" or "-avx512f", sorted."""
    return code_features(llvm.get_host_cpu_features().flatten().split(","))


def code_features(flags: Iterable[str]) -> tuple[str, ...]:
    """Those of LLVM's flags that generated code can depend on, sorted."""
    return tuple(sorted(f for f in flags if _CODE_FEATURES.fullmatch(f[1:])))


def parse_size(text: str) -> int:
    """Bytes of a size as the kernel writes it ("32K", "8M"); 0 if it is none."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip())
    return int(match[1]) * _UNITS[match[2]] if match else 0


def cache_bytes(folder: Path = _CACHE_FOLDER) -> dict[int, int]:
    """Bytes of the data caches by level, 1 to 3: from the kernel, else the C library, else py-cpuinfo, else guessed."""
    found: dict[int, int] = {}
    for entry in sorted(folder.glob("index*")):
        with contextlib.suppress(OSError, ValueError):
            if (entry / "type").read_text().strip() != "Instruction":
                found[int((entry / "level").read_text())] = parse_size((entry / "size").read_text())
    for level, name in _SYSCONF.items():
        if not found.get(level):
            with contextlib.suppress(OSError, ValueError):
                found[level] = max(0, os.sysconf(name))
    if not (found.get(1) and found.get(2)):
        found |= _cpuinfo_caches(found)
    return {level: found.get(level) or default for level, default in _DEFAULT_CACHES.items()}


def _cpuinfo_caches(found: dict[int, int]) -> dict[int, int]:
    """The levels that `found` lacks, from py-cpuinfo where it is installed (it takes a second)."""
    try:
        import cpuinfo
    except ImportError:
        return {}
    info = cpuinfo.get_cpu_info()
    names = {1: "l1_data_cache_size", 2: "l2_cache_size", 3: "l3_cache_size"}
    sizes = {level: info.get(name, 0) for level, name in names.items() if not found.get(level)}
    return {level: size for level, size in sizes.items() if isinstance(size, int)}


def cpu_quota(file: Path = _QUOTA_FILE) -> int | None:
    """Whole processors that the control group grants, at least 1; None if it does not limit them."""
    try:
        granted, period = file.read_text().split()
        return None if granted == "max" else max(1, int(granted) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _sibling_groups(allowed: set[int]) -> int:
    """How many physical cores the allowed processors belong to; 0 if the kernel does not say."""
    groups: set[str] = set()
    for cpu in allowed:
        try:
            groups.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            return 0
    return len(groups)


def usable_cores() -> int:
    """Physical cores that this process may use: its affinity and its quota counted, hardware threads not."""
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        cores = _sibling_groups(allowed) or len(allowed)
    else:
        import psutil

        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, quota))
