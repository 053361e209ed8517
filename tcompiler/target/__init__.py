"""What a machine is: instruction set, registers, caches, cores, measured peaks, and an analytic model of it."""
