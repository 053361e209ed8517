"""Operators: a type rule and a definition each, one record in one table (see registry)."""
