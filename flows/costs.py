"""report_costs(datasets): what many datasets have cost.

    read       the attempts of all datasets
    sum        by day, model, job ... to the last digit
    report     one HTML page, and a table in Prefect's UI

Failed when the month's budget is overrun.
"""

from mavi_tasks.flows.costs import report_costs

__all__ = ["report_costs"]
