import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from web_server import Served, serving

from fedn_py.api import Network, NotFromHere, ReducerUnreachable, RemoteRefusal, SessionOptions, WaitedTooLong
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.reducer.shown_events import EventView
from fedn_py.reducer.shown_sessions import SessionView
from fedn_py.settings import CertificateSettings
from fedn_py.web import create_standby_app


@pytest.fixture
def network(served: Served) -> Network:
    return Network(f"https://localhost:{served.port}", served.control.let_in("admin"), served.authority_file)


@pytest.fixture
def nobody() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"https://localhost:{free.getsockname()[1]}"


@pytest.fixture
def standby(certificate: CertificateSettings) -> Iterator[str]:
    with serving(lambda _: create_standby_app(lambda: "standby: north is active"), certificate) as port:
        yield f"https://localhost:{port}"


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@contextmanager
def a_listener(served: Served, *answers: bytes) -> Iterator[str]:
    """Listen with the reducer's certificate, and give one answer for each connection; gives its url."""
    certificate = served.authority_file.parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "reducer.pem", certificate / "reducer.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for content in answers:
                connection, _ = listener.accept()
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(65536)
                    tls.sendall(content)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        thread.join()


def a_session(network: Network, folder: Path, rounds: int = 2) -> SessionView:
    (folder / "package.tar.gz").write_bytes(b"package")
    (folder / "seed.safetensors").write_bytes(b"model")
    package = network.upload_package(folder / "package.tar.gz")
    seed = network.upload_seed_model(folder / "seed.safetensors")
    options = SessionOptions(package=package.digest, seed_model=seed.digest, rounds=rounds, parameters={"rate": 0.1})
    return network.start_session(options)


def test_a_session_is_started_watched_and_ended(served: Served, network: Network, tmp_path: Path) -> None:
    session = a_session(network, tmp_path)
    assert session.options.parameters == {"rate": 0.1}
    assert network.status().active_session == session.id
    for number in (1, 2):
        served.control.finish_round(session.id, number, 0.5 * number)
    assert [view.metrics["accuracy"] for view in network.rounds(session.id)] == [0.5, 1.0]
    assert network.round(session.id, 2).clients[1].samples == 20
    assert network.pause_session(session.id).status == "paused"
    assert network.resume_session(session.id).status == "running"
    assert served.control.new_works == 0
    network.pause_session(session.id)
    assert network.resume_session(session.id, new_work=True).status == "running"
    assert served.control.new_works == 1
    assert network.change_session(session.id, rounds=5, gather_timeout_s=0.5).rounds_wanted == 5
    assert network.session(session.id).options == replace(session.options, rounds=5, gather_timeout_s=0.5)
    assert network.stop_session(session.id, after_round=True).intent == "end"
    assert network.stop_session(session.id).status == "stopped"
    assert network.sessions() == [network.session(session.id)]


def test_a_masked_session_keeps_its_terms_and_its_rounds_show_who_held_the_masks(
    served: Served, network: Network, tmp_path: Path
) -> None:
    plain = a_session(network, tmp_path)
    network.stop_session(plain.id)
    masked = MaskedOptions(clip=0.25, k=3, r=2, metrics={"loss": 8.0})
    session = network.start_session(replace(plain.options, masking="pet", masked=masked))
    assert (session.options.masking, session.options.masked) == ("pet", masked)
    assert network.session(session.id) == session
    privacy = network.privacy(session.id)
    assert [(row.party, row.exposure) for row in privacy.rows] == [("combiner", "masked"), ("reducer", "never")]
    told = served.control.mask_round(session.id, 1)
    view = network.round(session.id, 1)
    assert view == told
    assert [client.samples for client in view.clients] == [None, None]


def test_waiting_ends_with_the_session(served: Served, network: Network, tmp_path: Path) -> None:
    session = a_session(network, tmp_path)
    seen = []

    def watch(view: SessionView, _rounds: object) -> None:
        seen.append(view.status)
        if len(seen) == 2:
            network.stop_session(session.id)

    assert network.wait(session.id, poll_s=0.0, on_change=watch).status == "stopped"
    assert seen == ["running", "running", "stopped"]


def test_waiting_ends_when_its_time_is_over(network: Network, tmp_path: Path) -> None:
    session = a_session(network, tmp_path)
    with pytest.raises(WaitedTooLong, match="0 of 2 rounds"):
        network.wait(session.id, timeout_s=0.0)


def test_changes_are_followed(served: Served, network: Network) -> None:
    told = network.follow()
    assert next(told) == 0
    for count in (1, 2):
        served.loop.call_soon_threadsafe(served.control.bell.ring)
        assert next(told) == count
    told.close()


def test_following_goes_on_where_the_connection_breaks_off(served: Served) -> None:
    answers = (b'data: {"changes": 7}\n\n: still here\n\n', b'data: {"chan', b'data: {"changes": 7}\n\n')
    with a_listener(served, *(STREAM + text for text in answers)) as url:
        told = Network(url, "t", served.authority_file).follow(again_s=0.0)
        assert [next(told), next(told)] == [7, 7]
        told.close()


def test_who_may_not_follow_is_told_so(served: Served) -> None:
    network = Network(f"https://localhost:{served.port}", "wrong", served.authority_file)
    with pytest.raises(RemoteRefusal) as refused:
        next(network.follow())
    assert refused.value.status == 401


def test_a_model_goes_up_and_down_with_progress(network: Network, tmp_path: Path) -> None:
    content = bytes(range(256)) * (2 * 4096 + 1)
    (tmp_path / "model").write_bytes(content)
    up: list[tuple[int, int]] = []
    view = network.upload_seed_model(tmp_path / "model", lambda done, total: up.append((done, total)))
    assert view.digest == hashlib.sha256(content).hexdigest()
    assert up[-1] == (len(content), len(content))
    assert len(up) == 3
    file = network.download_model(view.digest, tmp_path / "again")
    assert file.read_bytes() == content
    assert network.models() == [view]
    assert network.model(view.digest) == view


def test_wrong_bytes_are_not_kept(served: Served, network: Network, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"model")
    view = network.upload_seed_model(tmp_path / "model")
    served.control.objects[view.digest] = b"other"
    with pytest.raises(NotFromHere):
        network.download_model(view.digest, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_lists_longer_than_a_page_come_whole(served: Served, network: Network, tmp_path: Path) -> None:
    session = a_session(network, tmp_path)
    for number in range(1, 1203):
        served.control.finish_round(session.id, number, 0.5)
    assert [view.number for view in network.rounds(session.id)] == list(range(1, 1203))


def test_the_network_can_be_seen(served: Served, network: Network) -> None:
    served.control.event_views = [EventView(n, 1.0, "round failed", "error", "why", {}) for n in range(1, 6)]
    assert [view.name for view in network.combiners()] == ["combiner-1"]
    assert [view.name for view in network.clients()] == ["anna", "bert"]
    assert [view.seq for view in network.events(limit=2)] == [4, 5]
    assert [view.seq for view in network.events(after=2, limit=2, severity="error")] == [3, 4]
    assert network.packages() == []


def test_a_session_is_started_by_its_terms_one_by_one(network: Network, tmp_path: Path) -> None:
    (tmp_path / "package.tar.gz").write_bytes(b"package")
    (tmp_path / "seed.safetensors").write_bytes(b"model")
    package = network.upload_package(tmp_path / "package.tar.gz")
    seed = network.upload_seed_model(tmp_path / "seed.safetensors")
    session = network.start_session(package=package, seed_model=seed.digest, rounds=3, parameters={"rate": 0.1})
    assert session.options == SessionOptions(
        package=package.digest, seed_model=seed.digest, rounds=3, parameters={"rate": 0.1}
    )
    with pytest.raises(TypeError):
        network.start_session(session.options, rounds=4)
    with pytest.raises(TypeError, match="round"):
        network.start_session(package=package, seed_model=seed, round=3)
    network.download_model(seed, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"model"
    assert [file.path for file in network.package_files(package)] == ["fedn.yaml", "src/train.py"]
    assert [tensor.name for tensor in network.model_tensors(seed)] == ["b", "w"]
    assert network.model_tensors(seed.digest)[1].shape == (2, 3)


def test_validations_of_more_than_a_page_come_whole(served: Served, network: Network, tmp_path: Path) -> None:
    session = a_session(network, tmp_path)
    for number in range(1, 603):
        served.control.finish_round(session.id, number, 0.5)
    found = network.validations(session.id)
    assert [view.number for view in found] == list(range(1, 603))
    assert found[0] == served.control.validation_views[0]
    assert len(network.validations(session.id, after=600)) == 2


def test_events_are_looked_for_until_enough_are_found(served: Served, network: Network) -> None:
    served.control.event_views = [
        EventView(seq, 1.0, "a.kind", "error" if seq % 10 == 0 else "info", f"Number {seq}", {"client": f"c{seq % 3}"})
        for seq in range(1, 101)
    ]
    served.control.events_at_once = 7
    assert [event.seq for event in network.events(severity="error", limit=4)] == [70, 80, 90, 100]
    assert [event.seq for event in network.events(before=60, severity="error", limit=2)] == [50, 40]
    assert [event.seq for event in network.events(after=60, severity="error")] == [70, 80, 90, 100]
    assert [event.seq for event in network.events(after=0, text="number 9", client="c0")] == [9, 90, 93, 96, 99]
    assert network.events(combiner="north") == network.events(before=0) == []
    assert network.event(17).text == "Number 17"


def test_a_client_is_shown_and_revoked(network: Network) -> None:
    anna, bert = network.clients()
    assert network.client(anna.id) == anna
    assert network.revoke_client(anna).revoked
    assert network.revoke_client(bert.id).name == "bert"
    assert all(client.revoked for client in network.clients())


def test_tokens_are_made_and_revoked(network: Network) -> None:
    text, view = network.create_token("viewer", "a colleague", 60)
    assert text.startswith("fedn1.")
    assert network.tokens() == [view]
    assert network.revoke_token(view.id).revoked


def test_a_refusal_carries_the_reducers_own_words(network: Network) -> None:
    with pytest.raises(RemoteRefusal) as caught:
        network.session("00")
    assert (caught.value.status, caught.value.code) == (404, "UnknownSession")
    assert "fedn-py session list" in caught.value.remedy


def test_a_large_upload_that_is_refused_says_why(network: Network, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(8 << 20))
    with pytest.raises(RemoteRefusal) as caught:
        network.upload_seed_model(tmp_path / "large")
    assert (caught.value.status, caught.value.code) == (413, "TooLarge")


def test_a_reducer_that_is_not_there_is_told_with_a_hint(served: Served) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ReducerUnreachable, match="nothing listens") as caught:
            Network(f"https://127.0.0.1:{port}", "t", served.authority_file).status()
    assert "fedn-py run reducer" in caught.value.remedy


def test_of_several_reducers_the_active_one_is_asked(served: Served, tmp_path: Path, standby: str, nobody: str) -> None:
    active, token = f"https://localhost:{served.port}", served.control.let_in("admin")
    network = Network([nobody, standby, active], token, served.authority_file)
    assert network.status() == Network(active, token, served.authority_file).status()
    session = a_session(Network([standby, active], token, served.authority_file), tmp_path)
    assert [view.id for view in network.sessions()] == [session.id]


def test_a_standby_counts_as_a_reducer_that_cannot_be_reached(served: Served, standby: str, nobody: str) -> None:
    for urls in ([standby], [nobody, standby]):
        with pytest.raises(ReducerUnreachable, match="standby: north is active") as caught:
            Network(urls, "t", served.authority_file).status()
        assert "active reducer" in caught.value.remedy


def test_a_certificate_of_another_authority_is_not_trusted(served: Served) -> None:
    with pytest.raises(ReducerUnreachable, match="not trusted") as caught:
        Network(f"https://localhost:{served.port}", "t").status()
    assert "authority_file" in caught.value.remedy


def test_something_else_that_listens_is_not_taken_for_a_reducer(served: Served) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    told = pytest.raises(ReducerUnreachable, match="not as a reducer does")
    with a_listener(served, answer) as url, told:
        Network(url, "t", served.authority_file).status()


def test_only_https_is_spoken() -> None:
    with pytest.raises(ReducerUnreachable, match="https"):
        Network("http://localhost:8090", "t")
