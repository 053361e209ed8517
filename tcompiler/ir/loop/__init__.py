"""Loop nests over buffers with blocks: the language that schedules rewrite."""
