"""Models that can be called: values, argument errors, threads, stages' text, unloading."""

from __future__ import annotations

import gc
import os
import re
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tcompiler.errors import ArgumentError, InternalError, UserError
from tcompiler.runtime.arguments import OutputPlan, TensorSpec, bind, convert
from tcompiler.runtime.elf import symbols
from tcompiler.runtime.loader import load_objects
from tcompiler.runtime.memory import address_of, aligned_bytes
from tcompiler.runtime.model import Model
from tests.runtime.hand_written import ADD_RELU, SQUARE, compile_text, make_artifact, reference

RNG = np.random.default_rng(0)


def values(shape: tuple[int, ...] = (3, 5)) -> np.ndarray[Any, Any]:
    return (RNG.standard_normal(shape) * 5).astype(np.float32)


def check(model: Model, x: np.ndarray[Any, Any], /, *args: object, **named: object) -> None:
    expected = reference(x, np.asarray(model.artifact.constants["c"]))
    results = model(*args, **named)
    assert isinstance(results, tuple)
    for result, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, want)
        assert result.flags.c_contiguous and result.flags.writeable and address_of(result) % 64 == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 5), (), (1,), (64, 64)])
def test_values(threads: int, shape: tuple[int, ...]) -> None:
    model = Model(make_artifact(shape, threads))
    for _ in range(3):
        x = np.asarray(values(shape))
        check(model, x, x)
    assert model.threads == threads
    assert model.thread_runtime.kind == ("inline" if threads == 1 else model.thread_runtime.kind)


def test_the_thread_count_can_be_chosen_at_load() -> None:
    x = values()
    for threads in (1, 2, 4):
        model = Model(make_artifact(threads=2), threads)
        assert model.threads == threads
        check(model, x, x)
    with pytest.raises(UserError) as caught:
        Model(make_artifact(), 0)
    assert str(caught.value) == "a model runs on 1 or more threads, not on 0"


def test_inputs_by_name_and_of_any_layout() -> None:
    model = Model(make_artifact())
    x = values()
    check(model, x, x=x)
    check(model, x, np.asfortranarray(x))
    check(model, x, values((6, 10))[::2, ::2] * 0 + x)
    wide = np.zeros((6, 10), np.float32)
    wide[::2, ::2] = x
    check(model, x, wide[::2, ::2])
    check(model, x, x[::-1][::-1])
    read_only = x.copy()
    read_only.flags.writeable = False
    check(model, x, read_only)
    raw = np.zeros(4 * 15 + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(3, 5)
    unaligned[...] = x
    assert not unaligned.flags.aligned
    check(model, x, unaligned)


class _Exporter:
    """Nothing but the DLPack protocol."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def test_dlpack_inputs() -> None:
    model = Model(make_artifact())
    x = values()
    check(model, x, _Exporter(x))
    check(model, x, _Exporter(np.asfortranarray(x)))


def test_results_are_new_and_survive_the_model() -> None:
    model = Model(make_artifact())
    x = values()
    first = model(x)
    kept = [np.array(r) for r in first]
    second = model(x + 1)
    assert not any(np.shares_memory(a, b) for a in first for b in second)
    del model, second
    gc.collect()
    for result, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(result, copy)


def test_nan_infinity_and_denormals_pass() -> None:
    model = Model(make_artifact((4,), 2, np.zeros(4, np.float32)))
    x = np.array([np.nan, np.inf, -np.inf, 1e-40], np.float32)
    y, z = model(x)
    np.testing.assert_array_equal(y, np.array([np.nan, np.inf, 0, 1e-40], np.float32))
    np.testing.assert_array_equal(z, np.array([np.nan, np.inf, 0, 0], np.float32))


@pytest.mark.parametrize(
    ("args", "named", "message"),
    [
        ((), {}, "the model takes 1 input (x: f32[3, 5]); missing: x: f32[3, 5]"),
        ((1, 2), {}, "the model takes 1 input (x: f32[3, 5]), but 2 were given"),
        ((), {"X": 1}, "the model has no input 'X'; the model takes 1 input (x: f32[3, 5])"),
        ((1,), {"x": 1}, "input 'x' is given twice: by position (argument 1) and by name"),
        (
            (np.zeros((3, 5)),),
            {},
            "input 'x' (argument 1) has elements of float64, but the model takes float32; "
            "convert with .astype(numpy.float32)",
        ),
        (
            (np.zeros((3, 5), ">f4"),),
            {},
            "input 'x' (argument 1) has elements of >f4, but the model takes float32; "
            "convert with .astype(numpy.float32)",
        ),
        (
            (np.zeros((5, 3), np.float32),),
            {},
            "input 'x' (argument 1) has shape (5, 3), but the model takes (3, 5)",
        ),
        (
            (),
            {"x": [1, 2]},
            "input 'x' (argument 1) is a list, but the model takes an array of float32 with shape (3, 5); "
            "make one with numpy.asarray(value, numpy.float32)",
        ),
        (
            (None,),
            {},
            "input 'x' (argument 1) is a NoneType, but the model takes an array of float32 with shape (3, 5); "
            "make one with numpy.asarray(value, numpy.float32)",
        ),
    ],
)
def test_wrong_arguments(args: tuple[object, ...], named: dict[str, object], message: str) -> None:
    model = Model(make_artifact())
    with pytest.raises(ArgumentError) as caught:
        model(*args, **named)
    assert str(caught.value) == message
    x = values()
    check(model, x, x)


def test_arguments_are_bound_to_their_inputs() -> None:
    specs = [TensorSpec("ids", "i64", (2,)), TensorSpec("mask", "bool", (2,)), TensorSpec("scale", "f32", ())]
    assert bind(specs, (1,), {"scale": 3, "mask": 2}) == [1, 2, 3]
    assert bind(specs, (1, 2, 3), {}) == [1, 2, 3]
    takes = "the model takes 3 inputs (ids: i64[2]; mask: bool[2]; scale: f32[])"
    with pytest.raises(ArgumentError) as caught:
        bind(specs, (1,), {"maks": 2})
    assert str(caught.value) == f"the model has no input 'maks' (did you mean 'mask'?); {takes}"
    with pytest.raises(ArgumentError) as caught:
        bind(specs, (1,), {})
    assert str(caught.value) == f"{takes}; missing: mask: bool[2]; scale: f32[]"


def test_arrays_of_every_type_are_converted() -> None:
    for dtype, array in (
        ("f64", np.float64(3)),
        ("f16", np.zeros((), np.float16)),
        ("i8", np.zeros((), np.int8)),
        ("u8", np.zeros((), np.uint8)),
        ("i16", np.zeros((), np.int16)),
        ("i32", np.zeros((), np.int32)),
        ("i64", np.int64(4)),
        ("bool", np.True_),
    ):
        result = convert(TensorSpec("x", dtype, ()), 0, array)
        assert result.shape == () and result.dtype == array.dtype and result == array
    bits = np.array([0x3F80, 0x4000], np.uint16)
    spec = TensorSpec("x", "bf16", (2,))
    np.testing.assert_array_equal(convert(spec, 0, bits), bits)
    np.testing.assert_array_equal(convert(spec, 0, np.array([1, 2], ml_dtypes.bfloat16)), bits)
    with pytest.raises(ArgumentError) as caught:
        convert(spec, 1, np.zeros(2, np.float32))
    assert str(caught.value) == (
        "input 'x' (argument 2) has elements of float32, but the model takes bfloat16 (or its bits in uint16); "
        "convert with .astype(ml_dtypes.bfloat16)"
    )


def test_a_tensor_that_numpy_cannot_view_is_refused() -> None:
    class Elsewhere(_Exporter):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("the tensor is on the moon")

    with pytest.raises(ArgumentError) as caught:
        convert(TensorSpec("x", "f32", (1,)), 0, Elsewhere(np.zeros(1, np.float32)))
    assert str(caught.value) == (
        "input 'x' (argument 1) is a Elsewhere that numpy cannot view: the tensor is on the moon; "
        "pass an array in the CPU's memory"
    )


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (1000,)])
@pytest.mark.parametrize("dtype", ["f64", "bool", "f16", "bf16"])
def test_outputs_are_aligned(shape: tuple[int, ...], dtype: str) -> None:
    plan = OutputPlan.of(TensorSpec("y", dtype, shape))
    for _ in range(20):
        array, address = plan.allocate(0)
        assert array.shape == shape and address % 64 == 0 and array.flags.c_contiguous
        assert array.size == 0 or array.__array_interface__["data"][0] == address


@pytest.mark.parametrize("near", [1 << 20, (1 << 20) + 16, (1 << 20) + 4092])
@pytest.mark.parametrize("dtype", ["f64", "f32", "u8"])
def test_long_outputs_lie_half_a_page_from_the_input(near: int, dtype: str) -> None:
    plan = OutputPlan.of(TensorSpec("y", dtype, (3, 1 << 18)))
    for _ in range(5):
        array, address = plan.allocate(near)
        assert array.shape == (3, 1 << 18) and address % 64 == 0
        assert (address - near // 64 * 64) % 4096 == 2048
        array[...] = 1  # all of it is there


def test_memory_of_large_outputs_is_used_again_once_nobody_has_it() -> None:
    plan = OutputPlan.of(TensorSpec("y", "f32", (1 << 19,)))
    first, place = plan.allocate(0)
    second, other = plan.allocate(0)
    assert first.ctypes.data != second.ctypes.data
    for held in (first[5:].reshape(-1, 1), memoryview(first), np.from_dlpack(first)):
        first = None
        third, elsewhere = plan.allocate(0)
        assert elsewhere not in (place, other)
        del third
        first = np.asarray(held)
    del first, held
    assert plan.allocate(0)[1] == place
    del second
    assert {plan.allocate(0)[1] for _ in range(5)} <= {place, other}
    small = OutputPlan.of(TensorSpec("y", "f32", (1000,)))
    small.allocate(0)
    assert not small.kept


def test_threads_never_get_the_same_memory() -> None:
    plan = OutputPlan.of(TensorSpec("y", "u8", (1 << 20,)))
    wrong: list[int] = []

    def caller(number: int) -> None:
        for _ in range(300):
            array, _ = plan.allocate(0)
            array[::4096] = number
            if (array[::4096] != number).any():
                wrong.append(number)

    callers = [threading.Thread(target=caller, args=(k,)) for k in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert not wrong


def test_aligned_memory_and_addresses() -> None:
    for alignment in (64, 4096):
        block = aligned_bytes(100, alignment)
        assert block.shape == (100,) and address_of(block) % alignment == 0
    for array in (np.zeros(0), np.zeros((3, 4)).T[1:], np.zeros(3)[::-1]):
        assert address_of(array) == array.__array_interface__["data"][0]


def test_concurrent_calls() -> None:
    model = Model(make_artifact((40, 50), 2))
    c = np.asarray(model.artifact.constants["c"])
    wrong: list[int] = []

    def caller(seed: int) -> None:
        x = (np.random.default_rng(seed).standard_normal((40, 50)) * 20).astype(np.float32)
        expected = reference(x, c)
        for _ in range(200):
            if not all(np.array_equal(r, e) for r, e in zip(model(x), expected, strict=True)):
                wrong.append(seed)

    callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert not wrong


def test_a_forked_child_can_call_the_model() -> None:
    model = Model(make_artifact((40, 50), 2))
    x = values((40, 50))
    check(model, x, x)
    child = os.fork()
    if child == 0:
        try:
            check(model, x, x)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_profiled_runs() -> None:
    model = Model(make_artifact())
    x = values()
    outputs, seconds = model.run_profiled(x)
    for result, want in zip(outputs, reference(x, np.asarray(model.artifact.constants["c"])), strict=True):
        np.testing.assert_array_equal(result, want)
    assert len(seconds) == 2 and all(s > 0 for s in seconds)
    with pytest.raises(UserError) as caught:
        Model(make_artifact(profiled=False)).run_profiled(x)
    assert str(caught.value) == "this model cannot be profiled: it was compiled without a table of its steps"


def test_profiled_runs_pass_every_kind_of_buffer() -> None:
    artifact = make_artifact((8,), 1, np.zeros(8, np.float32))
    # square takes elements 2.. of the input through the arena: y = relu(x), z = relu(x)^2 at an offset of 0.
    artifact.manifest["calls"] = [
        {"kernel": "add_relu", "args": [["input", 0], ["const", 64], ["arena", 64]]},
        {"kernel": "square", "args": [["arena", 64], ["output", 1, 0]]},
        {"kernel": "square", "args": [["input", 0, 0], ["output", 0]]},
    ]
    x = values((8,))
    (y, z), seconds = Model(artifact).run_profiled(x)
    np.testing.assert_array_equal(y, x * x)
    np.testing.assert_array_equal(z, np.maximum(x, 0) ** 2)
    assert len(seconds) == 3


def test_the_stages_text() -> None:
    model = Model(make_artifact())
    assert model.text("graph") == "y = relu(x + c)\nz = y * y\n"
    assert model.text("llvm", "square") == SQUARE
    assert model.text("llvm", kernel="add_relu") == ADD_RELU
    assert model.text("llvm") == ADD_RELU + "\n" + SQUARE
    for stage, kernel, message in (
        ("lvm", None, "no stage 'lvm' (did you mean 'llvm'?); this model keeps: graph, llvm, asm"),
        ("zzz", "square", "no stage 'zzz'; this model keeps: graph, llvm, asm"),
        ("llvm", "squre", "stage 'llvm' has no kernel 'squre' (did you mean 'square'?); it has: add_relu, square"),
        ("graph", "square", "stage 'graph' is one text for the whole model: ask for it without a kernel"),
    ):
        with pytest.raises(UserError) as caught:
            model.text(stage, kernel)
        assert str(caught.value) == message


def test_what_a_model_says_of_itself() -> None:
    model = Model(make_artifact(threads=1))
    assert repr(model) == "<Model (x: f32[3, 5]) -> (y: f32[3, 5], z: f32[3, 5]), threads: 1 (inline)>"
    assert model.inputs == (TensorSpec("x", "f32", (3, 5)),)
    assert [spec.name for spec in model.outputs] == ["y", "z"]
    assert [kernel["name"] for kernel in model.kernels] == ["add_relu", "square"]


def test_dropping_a_model_unloads_it() -> None:
    x = values((200, 200))
    model = Model(make_artifact((200, 200)))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for _ in range(3):
        Model(model.artifact)(x)
    before = resident()
    for _ in range(60):
        Model(model.artifact)(x)
    gc.collect()
    # A leak of code and arena would be at least 60 * 170 KB.
    assert resident() - before < 4 << 20


def test_code_that_wants_a_foreign_function_is_refused() -> None:
    data = compile_text("declare float @sinf(float)\ndefine float @f(float %x) {\n %y = call float @sinf(float %x)\n"
                        " ret float %y\n}\n")  # fmt: skip
    assert symbols(data) == ({"f"}, {"sinf"})
    with pytest.raises(InternalError) as caught:
        load_objects([data], ["f"])
    assert str(caught.value) == "compiled code refers to functions that no object defines: sinf"
    with pytest.raises(InternalError) as caught:
        load_objects([compile_text(SQUARE.replace("COUNT", "3"))], ["square", "cube"])
    assert str(caught.value) == "compiled code refers to functions that no object defines: cube"
    with pytest.raises(InternalError, match=re.escape("compiled code does not link: ")):
        load_objects([compile_text(SQUARE.replace("COUNT", "3"))] * 2, ["square"])


def test_objects_may_lie_far_apart_and_use_memory_functions() -> None:
    # Two hundred objects, each calling the next, each with data of its own and a fill that becomes memset.
    count = 200
    objects = []
    for i in range(count):
        following = f"call i64 @f{i + 1}(ptr %p)" if i + 1 < count else "add i64 0, 0"
        objects.append(compile_text(f"""
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
{f"declare i64 @f{i + 1}(ptr)" if i + 1 < count else ""}
@table = internal constant [1024 x i64] [{", ".join(f"i64 {i + k}" for k in range(1024))}]
define i64 @f{i}(ptr %p) {{
  %n = load i64, ptr %p
  %buffer = alloca i8, i64 %n
  call void @llvm.memset.p0.i64(ptr %buffer, i8 1, i64 %n, i1 false)
  %at = getelementptr i64, ptr @table, i64 %n
  %own = load i64, ptr %at
  %rest = {following}
  %sum = add i64 %own, %rest
  ret i64 %sum
}}
""", 0))  # fmt: skip
    import ctypes

    library = load_objects(objects, ["f0"])
    n = ctypes.c_int64(1000)
    total = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(library.addresses["f0"])(ctypes.addressof(n))
    assert total == sum(1000 + i for i in range(count))
