"""Which datasets the flow report_costs reads."""

import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.flows.costs import folders


def test_a_glob_that_names_no_dataset_is_reported(tmp_path):
    with pytest.raises(InputError, match="none found at"):
        folders([str(tmp_path / "*")])
