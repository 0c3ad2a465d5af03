"""Ask many vision models about media, within limits and a budget, and keep what each answer cost.

The stages, in the order the data takes them:

    job, manifest, media, prompt -> plan -> dispatch (limits, budget, providers, gateway)
        -> journal -> dataset -> compare -> report
                             \\-> costs -> report
"""

from mavi_tasks.common.version import __version__

__all__ = ["__version__"]
