from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
import yaml
from web_server import Served, served_around

from fedn_py.settings import CertificateSettings
from fedn_py.web.surroundings import Joining, Surroundings

JOINING = Joining(12071, "-----BEGIN CERTIFICATE-----\n")


@pytest.fixture
def known(certificate: CertificateSettings) -> Iterator[Served]:
    with served_around(certificate, Surroundings(joining=JOINING)) as served:
        yield served


def test_the_settings_that_are_given_along_reach_this_reducer(known: Served) -> None:
    viewer = known.control.let_in("viewer")
    answer = known.ask("GET", "/api/v1/client-settings?name=hospital-a", token=viewer)
    assert answer.headers["content-disposition"] == 'attachment; filename="client.yaml"'
    settings = yaml.safe_load(answer.body)
    assert settings["name"] == "hospital-a"
    assert settings["reducer"] == "localhost:12071"
    assert settings["token_file"] == "hospital-a.token"
    for name in ("", "a: b", "../x", "Hospital", "a" * 64):
        answer = known.ask("GET", f"/api/v1/client-settings?{urlencode({'name': name})}", token=viewer)
        assert answer.status == 422, name


def test_the_authority_is_given_where_it_is_known(known: Served, served: Served) -> None:
    answer = known.ask("GET", "/api/v1/authority", token=known.control.let_in("viewer"))
    assert answer.headers["content-disposition"] == 'attachment; filename="authority.pem"'
    assert answer.body.decode() == JOINING.authority_pem
    unknown = served.ask("GET", "/api/v1/authority", token=served.control.let_in("viewer"))
    assert (unknown.status, unknown.json["code"]) == (404, "Unknown")
