"""label_media(job): label what is new or changed in a media library.

    plan       read the manifest, check every item, forecast requests, cost and time
    label      shards of a thousand requests per model, by the job's runner
    publish    answers, attempts and the run's row as Parquet
    artifacts  plan, progress, models and summary in Prefect's UI

Completed, or Failed with a reason: too many failed rows, a budget that is reached, an outage.
"""

from mavi_tasks.flows.label import label_media

__all__ = ["label_media"]
