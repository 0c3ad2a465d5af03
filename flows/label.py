from mavi_tasks.flows.label import label_media

__all__ = ["label_media"]
