"""Writes the kernels of models as one tree of the compiler generates them: the other half of `tools.kernel_diff`.

``python tools/kernels_of.py JOB OUT`` compiles with whichever tcompiler is first on PYTHONPATH, perhaps an older one,
so it asks for little: to read a model, the pipeline up to its schedules, and the code generator.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

STAGES = ("expr", "loop", "trace", "scheduled", "llvm")
"""What is written of every kernel, in the order of the pipeline."""
SYMBOL = "kernel"
"""The name of every kernel's function: the compiler's own contains a digest of the compiler's source."""


UNFIT = 3
"""Exit status where the tree or the target will not do, whatever the model."""


def main() -> None:
    """Compiles the job's models, and appends a line of JSON for each to OUT when it is done."""
    job = json.loads(Path(sys.argv[1]).read_text())
    try:
        import tcompiler
        from tcompiler.api import read, resolve_target
        from tcompiler.backends.llvm.codegen import generate
        from tcompiler.errors import UserError
        from tcompiler.pipeline import Compilation, compile_module
    except ImportError as error:
        _unfit(f"the tree {job['label']} has no compiler that this script can ask: {error}")
    found = Path(tcompiler.__file__).parents[1].resolve()
    if found != Path(job["tree"]).resolve():
        _unfit(f"the tree {job['label']} has no tcompiler: Python finds another one, in {found}")
    try:
        target = resolve_target(job["target"])
    except UserError as error:
        _unfit(str(error))
    with open(sys.argv[2], "a", encoding="utf-8") as out:
        for name, path in job["models"]:
            try:
                c = compile_module(read(path, None), target, job["threads"], stop_after="scheduled")
            except UserError as error:
                out.write(json.dumps({"model": name, "error": str(error)}) + "\n")
                continue
            assert isinstance(c, Compilation)
            kernels = []
            for kernel in c.kernels.values():
                texts = {stage: c.texts[f"{stage}/{kernel.name}"] for stage in STAGES[:-1]}
                assert kernel.schedule is not None
                texts["llvm"] = generate(kernel.schedule.function, target, SYMBOL).text
                calls = sum(step.kernel == kernel.name for step in c.steps)
                kernels.append({"name": kernel.name, "calls": calls, "texts": texts})
            out.write(json.dumps({"model": name, "kernels": kernels}) + "\n")
            out.flush()


def _unfit(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(UNFIT)


if __name__ == "__main__":
    main()
