"""The runtime: loads what was compiled, runs it, saves it. Needs numpy and llvmlite, and nothing else of ours."""
