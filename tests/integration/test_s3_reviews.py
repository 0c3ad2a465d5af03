"""Reviews of a dataset in a bucket: published at once, so that another machine sees them."""

import pandas as pd
import pytest

from mavi_tasks.storage import s3 as objects
from mavi_tasks.storage.reviews import Conflict, Review, append, current
from tests.support.s3_server import s3_server


def test_two_machines_see_each_other(monkeypatch, tmp_path):
    with s3_server() as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        url = server.bucket("reviews") + "/pets"
        roots = []
        for machine in "ab":
            monkeypatch.setenv("MAVI_SPOOL", str(tmp_path / machine))
            roots.append(objects.folder(url))
        [first] = append(roots[0], [Review("1", "label", "corrected", '"cat"')])
        with pytest.raises(Conflict):
            append(roots[1], [Review("1", "label", "corrected", '"dog"')], seen={("1", "label"): None})
        append(roots[1], [Review("1", "label", "corrected", '"dog"')],
               seen={("1", "label"): first.review_id})  # fmt: skip
        assert current(roots[1])["value_json"].to_pylist() == ['"dog"']
        storage = {"client_kwargs": {"endpoint_url": server.url}, "key": "test", "secret": "test"}
        assert len(pd.read_parquet(url + "/reviews", storage_options=storage)) == 2
