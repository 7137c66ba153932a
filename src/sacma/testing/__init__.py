"""Tests for methods from outside: the same contract that sacma's own methods keep."""

from sacma.testing.method_checks import EACH_VARIANT, ONCE, Allowances, Case, check_method
from sacma.testing.toy_benchmark import write_folder as write_toy_benchmark

__all__ = ["EACH_VARIANT", "ONCE", "Allowances", "Case", "check_method", "write_toy_benchmark"]
