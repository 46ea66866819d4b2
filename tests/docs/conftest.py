"""The folder of stand-ins, which the pages share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for saved models in place of those of the hub."""
    return tmp_path_factory.mktemp("hub")
