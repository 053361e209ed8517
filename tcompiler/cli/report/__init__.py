"""What `tcompiler inspect` shows: facts about every kernel, and a page that holds everything about a model."""
