"""A compiling process: reads jobs on standard input and answers on standard output until the input ends.

It is run as a script and imports nothing of tcompiler, so that it is ready as soon as llvmlite is loaded. Its one
argument is the folder that holds llvmlite. Messages are a little-endian u32 length and that many marshalled bytes.
Jobs: (llvm_text, passes, codegen_level, triple, cpu, features, assembly). Answers: (object, assembly or None), or a
string that says what is wrong with the job.
"""

from __future__ import annotations

import marshal
import os
import sys

sys.path.append(sys.argv[1])

import llvmlite.binding as llvm

FUNCTION_PASSES = {
    "adce": "add_aggressive_dce_pass",
    "dce": "add_dead_code_elimination_pass",
    "dse": "add_dead_store_elimination_pass",
    "gvn": "add_new_gvn_pass",
    "instcombine": "add_instruction_combine_pass",
    "jump-threading": "add_jump_threading_pass",
    "lcssa": "add_lcssa_pass",
    "loop-reduce": "add_loop_strength_reduce_pass",
    "loop-rotate": "add_loop_rotate_pass",
    "loop-simplify": "add_loop_simplify_pass",
    "loop-unroll": "add_loop_unroll_pass",
    "memcpyopt": "add_mem_copy_opt_pass",
    "reassociate": "add_reassociate_pass",
    "sccp": "add_sccp_pass",
    "simplifycfg": "add_simplify_cfg_pass",
    "sink": "add_sinking_pass",
    "sroa": "add_sroa_pass",
}
MODULE_PASSES = {
    "always-inline": "add_always_inliner_pass",
    "constmerge": "add_constant_merge_pass",
    "globaldce": "add_global_dead_code_eliminate_pass",
    "globalopt": "add_global_opt_pass",
    "ipsccp": "add_ipsccp_pass",
}
LEVELS = {"O1": 1, "O2": 2, "O3": 3}

Job = tuple[str, str, int, str, str, str, bool]
Machines = dict[tuple[str, str, str, int], llvm.TargetMachine]


def optimise(module: llvm.ModuleRef, machine: llvm.TargetMachine, passes: str) -> None:
    """Run the passes that a job names (see `workers.CompileJob`)."""
    for name in filter(None, passes.split(",")):
        options = llvm.create_pipeline_tuning_options(LEVELS.get(name, 0))
        # Our text has explicit vectors and is unrolled where it should be: LLVM's guesses would undo measured choices.
        options.loop_vectorization = options.slp_vectorization = False
        options.loop_interleaving = options.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, options)
        if name in LEVELS:
            manager = builder.getModulePassManager()
        else:
            manager = llvm.create_new_module_pass_manager()
            getattr(manager, FUNCTION_PASSES.get(name) or MODULE_PASSES[name])()
        manager.run(module, builder)


def compile_module(job: Job, machines: Machines) -> tuple[bytes, str | None] | str:
    """Compile one module; a string says what is wrong with it."""
    text, passes, level, triple, cpu, features, assembly = job
    unknown = [name for name in passes.split(",") if name and name not in LEVELS | FUNCTION_PASSES | MODULE_PASSES]
    if unknown:
        known = ", ".join([*LEVELS, *sorted(FUNCTION_PASSES | MODULE_PASSES)])
        return f"unknown pass {unknown[0]!r}; there are: {known}"
    try:
        machine = machines.get((triple, cpu, features, level))
        if machine is None:
            machine = llvm.Target.from_triple(triple).create_target_machine(
                cpu=cpu, features=features, opt=level, reloc="pic", codemodel="small"
            )
            machines[triple, cpu, features, level] = machine
        # A context per module: one for all would keep every type and constant ever seen.
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
        module.triple = triple
        module.data_layout = str(machine.target_data)
        optimise(module, machine, passes)
        # Code generation changes the module, so each output needs a module of its own.
        listing = machine.emit_assembly(module.clone()) if assembly else None
        return machine.emit_object(module), listing
    except RuntimeError as error:
        return str(error).strip()


def main() -> None:
    """Answer jobs until standard input ends."""
    # Whatever LLVM prints must not end up among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs = sys.stdin.buffer
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machines: Machines = {}
    while header := jobs.read(4):
        job = marshal.loads(jobs.read(int.from_bytes(header, "little")))
        answer = marshal.dumps(compile_module(job, machines))
        answers.write(len(answer).to_bytes(4, "little") + answer)
        answers.flush()


if __name__ == "__main__":
    main()
