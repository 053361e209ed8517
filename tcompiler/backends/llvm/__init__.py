"""The LLVM backend: loop programs to object code for CPUs."""
