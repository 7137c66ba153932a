"""Tables, figures and the report page of finished runs."""

from sacma.results.draws import compare_draws
from sacma.results.page import write_report
from sacma.results.tables import Comparison, compare, table_1

__all__ = ["Comparison", "compare", "compare_draws", "table_1", "write_report"]
