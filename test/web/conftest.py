import pytest
from browser import Browser
from web_server import Served, certificate, served

__all__ = ["certificate", "served"]


@pytest.fixture
def browser(served: Served) -> Browser:
    """Return a browser that nobody has signed in at."""
    return Browser(served)
