"""Measuring a model beside other systems, each in a process of its own."""
