import datetime
from pathlib import Path

import pytest

from fedn_py.transport.certificates import (
    SOON,
    CertificateProblem,
    certificate_warnings,
    check_server_certificate,
    expires_at,
    fingerprint,
    issue_server_certificate,
    make_authority,
    read_authority,
    read_authority_certificate,
    read_server_certificate,
    write_pair,
)

NOW = datetime.datetime(2030, 6, 1, 12, tzinfo=datetime.UTC)
AUTHORITY = make_authority("testers", now=NOW)
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)


def test_a_server_certificate_serves_the_hosts_it_names() -> None:
    certificate = issue_server_certificate(AUTHORITY, "reducer", ["reducer.example", "10.1.2.3", "::1"], now=NOW)
    check_server_certificate(
        certificate.certificate_pem,
        hosts=["reducer.example", "10.1.2.3", "::1"],
        authority_pem=AUTHORITY.certificate_pem,
        now=NOW,
    )


def test_a_host_that_is_not_named_is_refused_with_those_that_are() -> None:
    certificate = issue_server_certificate(AUTHORITY, "reducer", ["reducer.example", "10.1.2.3"], now=NOW)
    with pytest.raises(CertificateProblem, match=r"does not name 10\.9\.9\.9; it names reducer\.example, 10\.1\.2\.3"):
        check_server_certificate(certificate.certificate_pem, hosts=["10.9.9.9"], now=NOW)


def test_what_will_go_wrong_with_a_certificate_is_told() -> None:
    pem = issue_server_certificate(AUTHORITY, "combiner", ["*.example", "10.1.2.3"], now=NOW).certificate_pem
    assert list(certificate_warnings(pem, ["east.example", "10.1.2.3"], now=NOW)) == []
    (not_named,) = certificate_warnings(pem, ["a.b.example"], now=NOW)
    assert "does not name a.b.example, by which clients call; it names *.example, 10.1.2.3" in not_named
    assert list(certificate_warnings(pem, now=NOW + 365 * DAY - SOON)) == []
    (ends,) = certificate_warnings(pem, now=NOW + 365 * DAY - SOON + HOUR)
    assert "ends on 2031-06-01 12:00 UTC" in ends


def test_a_certificate_without_hosts_is_not_made() -> None:
    with pytest.raises(CertificateProblem, match="names no host"):
        issue_server_certificate(AUTHORITY, "reducer", [], now=NOW)


def test_servers_have_a_year_and_authorities_ten() -> None:
    certificate = issue_server_certificate(AUTHORITY, "reducer", ["a"], now=NOW)
    assert expires_at(certificate.certificate_pem) == NOW + 365 * DAY
    assert expires_at(AUTHORITY.certificate_pem) == NOW + 3650 * DAY


def test_a_clock_that_is_an_hour_behind_does_no_harm_and_more_is_named() -> None:
    certificate = issue_server_certificate(AUTHORITY, "reducer", ["a"], now=NOW).certificate_pem
    check_server_certificate(certificate, now=NOW - HOUR)
    with pytest.raises(CertificateProblem, match="clock or certificate is wrong"):
        check_server_certificate(certificate, now=NOW - 2 * HOUR)


def test_an_expired_certificate_says_since_when() -> None:
    certificate = issue_server_certificate(AUTHORITY, "reducer", ["a"], now=NOW).certificate_pem
    with pytest.raises(CertificateProblem, match="expired on 2031-06-01 12:00 UTC"):
        check_server_certificate(certificate, now=NOW + 366 * DAY)


def test_another_authority_s_certificate_is_refused() -> None:
    other = make_authority("testers", now=NOW)
    certificate = issue_server_certificate(other, "reducer", ["a"], now=NOW)
    with pytest.raises(CertificateProblem, match="is not signed by"):
        check_server_certificate(certificate.certificate_pem, authority_pem=AUTHORITY.certificate_pem, now=NOW)


def test_files_come_back_and_keys_are_their_owner_s_alone(tmp_path: Path) -> None:
    authority = make_authority("testers")
    server = issue_server_certificate(authority, "reducer", ["a"])
    write_pair(authority.certificate_pem, authority.key_pem, tmp_path / "ca.pem", tmp_path / "ca-key.pem")
    write_pair(server.certificate_pem, server.key_pem, tmp_path / "tls" / "crt", tmp_path / "tls" / "key")
    assert read_authority(tmp_path / "ca.pem", tmp_path / "ca-key.pem") == authority
    assert read_server_certificate(tmp_path / "tls" / "crt", tmp_path / "tls" / "key") == server
    assert read_authority_certificate(tmp_path / "ca.pem") == authority.certificate_pem
    assert (tmp_path / "tls" / "key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca-key.pem", "ca.pem", "tls"]


def test_a_key_that_others_can_read_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    server = issue_server_certificate(make_authority("testers"), "reducer", ["a"])
    write_pair(server.certificate_pem, server.key_pem, tmp_path / "crt", tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(CertificateProblem, match="mode 0640") as caught:
        read_server_certificate(tmp_path / "crt", tmp_path / "key")
    assert caught.value.remedy == f"Run: chmod 600 {tmp_path / 'key'}"


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateProblem, match="nowhere cannot be read: No such file"):
        read_authority_certificate(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello", encoding="ascii")
    with pytest.raises(CertificateProblem, match="text is no certificate"):
        read_authority_certificate(tmp_path / "text")


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = make_authority("testers")
    one, two = (issue_server_certificate(authority, "reducer", ["a"]) for _ in range(2))
    write_pair(one.certificate_pem, two.key_pem, tmp_path / "crt", tmp_path / "key")
    with pytest.raises(CertificateProblem, match="is not the key of"):
        read_server_certificate(tmp_path / "crt", tmp_path / "key")


def test_an_expired_server_does_not_start(tmp_path: Path) -> None:
    past = datetime.datetime.now(datetime.UTC) - 400 * DAY
    server = issue_server_certificate(make_authority("testers", now=past), "reducer", ["a"], now=past)
    write_pair(server.certificate_pem, server.key_pem, tmp_path / "crt", tmp_path / "key")
    with pytest.raises(CertificateProblem, match="expired on"):
        read_server_certificate(tmp_path / "crt", tmp_path / "key")


def test_a_fingerprint_tells_certificates_apart() -> None:
    assert len(fingerprint(AUTHORITY.certificate_pem)) == 64
    assert fingerprint(AUTHORITY.certificate_pem) != fingerprint(make_authority("testers").certificate_pem)


def test_no_key_is_shown_when_a_value_is_printed() -> None:
    server = issue_server_certificate(AUTHORITY, "reducer", ["a"], now=NOW)
    assert "PRIVATE" not in repr(AUTHORITY)
    assert "PRIVATE" not in repr(server)
