"""Graph to graph: passes as frozen dataclasses whose fields are their options."""
