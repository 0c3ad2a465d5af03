"""Datasets in a bucket: `output: s3://bucket/prefix`.

    location.py  the local folder of a bucket's dataset (its spool), and the bucket of a folder
    mirror.py    parts out to the bucket, create-only, and in from it, each once
    bucket.py    the bucket itself: one small interface, the only module that imports botocore

The spool is a whole dataset folder: journal, request locks and staging work in it as in any other, and
published parts stay in it after they are in the bucket. Whoever reads a dataset reads the spool, after
`tables.open_table` has fetched the parts of other machines; a part never changes, so each is fetched once.
"""

from mavi_tasks.storage.s3.bucket import Bucket
from mavi_tasks.storage.s3.location import folder, is_url, url, url_of
from mavi_tasks.storage.s3.mirror import Mirror, existing, mirror_of

__all__ = ["Bucket", "Mirror", "existing", "folder", "is_url", "mirror_of", "url", "url_of"]
