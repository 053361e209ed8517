"""The four languages: scalar, graph, expr and loop. No pass lives here."""
