from mavi_tasks.flows.costs import report_costs

__all__ = ["report_costs"]
