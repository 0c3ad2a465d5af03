"""Spend: every billed attempt, exact to the last digit.

    report = cost_report(["out/pets"], by=("day", "model"), tz="Europe/Berlin")
    to_json(report)["total_usd"]         # "1.204100000000"

sources -> scan -> aggregate (results, attempts) -> cube -> report -> JSON, export, FOCUS, terminal and page.
Spend is the sum of attempts.cost_usd. What it bought is in results: useful (answered), invalid (invalid or
failed); what is left over went to attempts without a row (retried). In-doubt calls are a band, not spend.
"""

from mavi_tasks.costs.cell import SpendCell
from mavi_tasks.costs.cost_report import DIMENSIONS, CostReport, Group, cost_report
from mavi_tasks.costs.to_json import to_json

__all__ = ["DIMENSIONS", "CostReport", "Group", "SpendCell", "cost_report", "to_json"]
