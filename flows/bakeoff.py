from mavi_tasks.flows.bakeoff import bake_off

__all__ = ["bake_off"]
