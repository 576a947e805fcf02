import json

from web_server import Served

from fedn_py.web.live import MOST_STREAMS


def following(served: Served, token: str, **headers: str):  # type: ignore[no-untyped-def]
    connection = served.connect()
    connection.request("GET", "/api/v1/live", headers={"Authorization": f"Bearer {token}", **headers})
    return connection, connection.getresponse()


def next_change(response) -> int:  # type: ignore[no-untyped-def]
    while True:
        line = response.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            return int(json.loads(line[6:])["changes"])


def ring(served: Served) -> None:
    served.loop.call_soon_threadsafe(served.control.bell.ring)


def test_a_page_is_told_at_once_where_it_stands_and_then_of_each_change(served: Served) -> None:
    connection, response = following(served, served.control.let_in("viewer"))
    assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
    assert next_change(response) == 0
    ring(served)
    assert next_change(response) == 1
    connection.close()


def test_one_that_comes_back_hears_only_what_is_new(served: Served) -> None:
    ring(served)
    connection, response = following(served, served.control.let_in("viewer"), **{"Last-Event-ID": "1"})
    ring(served)
    assert next_change(response) == 2
    connection.close()


def test_who_may_not_look_hears_nothing(served: Served) -> None:
    for token in ("", "wrong", served.control.let_in("client")):
        connection, response = following(served, token)
        assert response.status == 401
        connection.close()


def test_one_token_opens_so_many_streams_and_no_view_waits_for_them(served: Served) -> None:
    token = served.control.let_in("viewer")
    open_ones = [following(served, token) for _ in range(MOST_STREAMS)]
    assert [next_change(response) for _, response in open_ones] == [0] * MOST_STREAMS
    connection, response = following(served, token)
    assert response.status == 401
    assert served.ask("GET", "/api/v1/status", token=token).status == 200
    for one, _ in [*open_ones, (connection, response)]:
        one.close()


def test_a_network_without_streams_asks_what_is_new(served: Served) -> None:
    token = served.control.let_in("viewer")
    assert served.ask("GET", "/api/v1/live/poll", token=token).json == {"changes": 0}
    assert served.ask("GET", "/api/v1/live/poll?after=0", token=token).json == {"changes": 0}
    ring(served)
    assert served.ask("GET", "/api/v1/live/poll?after=0", token=token).json == {"changes": 1}


def test_a_revoked_token_is_told_nothing_more_however_much_goes_on(served: Served) -> None:
    token = served.control.let_in("viewer")
    connection, response = following(served, token)
    assert next_change(response) == 0
    del served.control.callers[token]
    ring(served)
    assert b"data:" not in response.read()
    connection.close()


def test_a_stream_is_opened_by_get_alone(served: Served) -> None:
    token = served.control.let_in("admin")
    assert served.ask("POST", "/api/v1/live", token=token).status in {404, 405}
