"""Assembly text of a kernel, made again from its LLVM text when somebody wants to read it."""

from __future__ import annotations

import llvmlite.binding as llvm

from tcompiler.runtime.loader import initialize
from tcompiler.runtime.manifest import TargetEntry


def assembly(text: str, target: TargetEntry) -> str:
    """Generate assembly from LLVM text as the compiler generated the object code.

    Args:
        text: One LLVM module, as the stage "llvm" keeps it.
        target: The machine that the object code is for.

    Returns:
        The listing, in LLVM's default syntax for the target.
    """
    initialize()
    features = ",".join(f if f[0] in "+-" else f"+{f}" for f in target["features"])
    machine = llvm.Target.from_triple(target["triple"]).create_target_machine(
        cpu=target["cpu"], features=features, opt=3, reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(text, llvm.create_context())
    module.triple = target["triple"]
    module.data_layout = str(machine.target_data)
    # The one pass that generated text may rely on; where no function asks for it, it changes nothing.
    manager = llvm.create_new_module_pass_manager()
    manager.add_always_inliner_pass()
    manager.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(0)))
    return str(machine.emit_assembly(module))
