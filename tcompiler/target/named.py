"""Targets by name, and the machine that this process runs on."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache

from tcompiler.errors import UserError
from tcompiler.target import probe
from tcompiler.target.target import KIB, MIB, Target, widest_vector

_TRIPLE = "x86_64-unknown-linux-gnu"
_V2 = ("cmov", "popcnt", "sse", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
_ICE = (*_V4, "avx512bitalg", "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni", "avx512vpopcntdq")
_SAPPHIRE = (*_ICE, "amx-bf16", "amx-int8", "amx-tile", "avx512bf16", "avx512fp16", "avxvnni")


def _x86(name: str, features: Iterable[str], l1: int, l2: int, l3: int) -> Target:
    enabled = frozenset(features)
    bits, registers = widest_vector(enabled)
    # LLVM would otherwise hold wide loads and stores to 256 bits on some AVX-512 machines.
    flags = [f"+{f}" for f in enabled] + (["-prefer-256-bit"] if bits == 512 else [])
    return Target(
        name=name,
        kind="cpu",
        triple=_TRIPLE,
        cpu=name,
        features=tuple(sorted(flags)),
        vector_bits=bits,
        vector_registers=registers,
        fma="fma" in enabled,
        l1_bytes=l1,
        l2_bytes=l2,
        l3_bytes=l3,
        cores=1,
    )


# Caches as the vendors state them, of one core, and the level 3 cache that a core shares; cores are counted as one.
NAMED = {
    target.name: target
    for target in (
        _x86("x86-64-v2", _V2, 32 * KIB, 256 * KIB, 8 * MIB),
        _x86("x86-64-v3", _V3, 32 * KIB, 512 * KIB, 16 * MIB),
        _x86("x86-64-v4", _V4, 32 * KIB, 1 * MIB, 16 * MIB),
        _x86("haswell", _V3, 32 * KIB, 256 * KIB, 8 * MIB),
        _x86("skylake-avx512", _V4, 32 * KIB, 1 * MIB, 16 * MIB),
        _x86("icelake-server", _ICE, 48 * KIB, 1280 * KIB, 32 * MIB),
        _x86("sapphirerapids", _SAPPHIRE, 48 * KIB, 2 * MIB, 32 * MIB),
        _x86("znver2", _V3, 32 * KIB, 512 * KIB, 16 * MIB),
        _x86("znver3", _V3, 32 * KIB, 512 * KIB, 32 * MIB),
        _x86("znver4", (*_ICE, "avx512bf16"), 32 * KIB, 1 * MIB, 32 * MIB),
        _x86("znver5", (*_ICE, "avx512bf16", "avxvnni"), 48 * KIB, 1 * MIB, 32 * MIB),
    )
}
HOST_NAMES = ("cpu", "host", "native")


@cache
def host() -> Target:
    """The machine that this process runs on.

    What the processor can do is asked feature by feature: under virtualisation its name may promise more, or say
    nothing.
    """
    features = probe.features()
    enabled = frozenset(f[1:] for f in features if f.startswith("+"))
    bits, registers = widest_vector(enabled)
    cpu = probe.cpu_name()
    if cpu in ("", "generic", "x86-64"):
        cpu = next((name for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2") if _runs(name, enabled)), "x86-64")
    caches = probe.cache_bytes()
    return Target(
        name=cpu,
        kind="cpu",
        triple=probe.triple(),
        cpu=cpu,
        features=tuple(sorted({*features, "-prefer-256-bit"} if bits == 512 else features)),
        vector_bits=bits,
        vector_registers=registers,
        fma="fma" in enabled,
        l1_bytes=caches[1],
        l2_bytes=caches[2],
        l3_bytes=caches[3],
        cores=probe.usable_cores(),
    )


def maker(target: Target) -> Target:
    """Whose code lays out a model's constants: the target's, or this machine's where that cannot run here.

    Args:
        target: The machine that the model is for.
    """
    here = host()
    same = (target.kind, target.triple.split("-")[0]) == (here.kind, here.triple.split("-")[0])
    needed = {f for f in target.features if f.startswith("+")}
    return target if same and needed <= set(here.features) else here


def _runs(name: str, enabled: frozenset[str]) -> bool:
    return all(f[1:] in enabled for f in NAMED[name].features if f.startswith("+"))


def get(name: str) -> Target:
    """The target of that name; "cpu", "host" and "native" are this machine.

    Raises:
        UserError: There is none of that name.
    """
    if name in HOST_NAMES:
        return host()
    target = NAMED.get(name)
    if target is None:
        names = (*HOST_NAMES, *NAMED)
        close = get_close_matches(name, names, 1, 0.4)
        nearest = f"; the nearest is {close[0]!r}" if close else ""
        raise UserError(f"there is no target {name!r}{nearest}; the targets are {', '.join(names)}")
    return target
