"""Memory planning: where each of a model's intermediate buffers lies in its arena."""
