"""What the tests of server processes share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from process_cluster import ProcessCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    """Three servers for one test."""
    with ProcessCluster(tmp_path) as cluster:
        yield cluster
