import pytest
from web_server import Served

from fedn_py.web.live import PATH


def test_the_stream_is_described_though_flask_never_serves_it(served: Served) -> None:
    described = served.ask("GET", "/api/v1/openapi.json").json["paths"][PATH]["get"]
    token = served.control.let_in("viewer")
    connection = served.connect()
    connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"})
    media = connection.getresponse().headers["content-type"]
    connection.close()
    assert list(described["responses"]["200"]["content"]) == [media]
    assert [one["name"] for one in described["parameters"]] == ["Last-Event-ID"]
    assert described["security"] == [{"token": []}]


@pytest.mark.parametrize("query", ["after=-2", "after=x", "before=1"])
def test_a_poll_that_is_not_understood_is_refused(served: Served, query: str) -> None:
    assert served.ask("GET", f"{PATH}/poll?{query}", token=served.control.let_in("viewer")).status == 422
