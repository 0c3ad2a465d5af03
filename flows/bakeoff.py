"""bake_off(job): label with all models of a job, compare them, and report drift.

    label_media's stages   into the dataset of this period: out/pets/2026-W47
    compare                accuracy, cost and agreement of the models -> reports/bakeoff.html
    drift                  the same models one period before -> reports/drift.html

Failed as label_media is, or when more labels changed than fail_if_flips allows.
"""

from mavi_tasks.flows.bakeoff import bake_off

__all__ = ["bake_off"]
