"""What a scheduled program costs, before it is run."""
