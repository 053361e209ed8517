"""Index and value expressions, shared by graph, expr and loop."""
