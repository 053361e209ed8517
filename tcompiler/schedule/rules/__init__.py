"""Rules that make default schedules and, later, design spaces; they call primitives and nothing else."""
