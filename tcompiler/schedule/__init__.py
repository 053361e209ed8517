"""Schedules: loop functions changed by primitives, each legal by conditions that are data, recorded in a trace."""

from tcompiler.schedule.schedule import Schedule, replay
from tcompiler.schedule.trace import Step, Trace

__all__ = ["Schedule", "Step", "Trace", "replay"]
