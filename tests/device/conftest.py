from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.device.servers import Server, sshd


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """A server that lets us in; what a test changes is put right, and nothing may be left."""
    yield running
    running.allow()
    running.know(running.host_key)
    assert list(running.temp.iterdir()) == []
