"""What is watched is there: each query of the dashboard and the alerts asks for what a network really shows."""

import json
import re
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from running_network import ROOT, UNEQUAL, RunningNetwork

DASHBOARD = ROOT / "config" / "grafana" / "fedn_py.json"
RULES = ROOT / "config" / "prometheus" / "rules.yaml"
SCRAPING = ROOT / "config" / "prometheus" / "prometheus.yaml"
HOW_TO = ROOT / "docs" / "how-to" / "watch-with-prometheus.md"

OF_PROMETHEUS = {"up"}
LABELS_OF_PROMETHEUS = {"job", "instance", "le", "alertname"}
UNITS = ("_total", "_seconds", "_bytes", "_info")
COUNTS = {
    "fedn_cell_phase",
    "fedn_clients_connected",
    "fedn_clients_required",
    "fedn_combiner_clients_connected",
    "fedn_combiner_joined",
    "fedn_combiners_connected",
    "fedn_reducer_active",
    "fedn_round_phase",
    "fedn_session_rounds_committed",
    "fedn_session_rounds_wanted",
    "fedn_session_running",
}
"""Gauges that count things or tell a state: they have no unit."""


@dataclass
class Query:
    """One expression, and the labels that are shown beside its values."""

    where: str
    text: str
    names: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        promql_parser.walk(promql_parser.parse(self.text.replace("$__rate_interval", "5m")), self._visit)

    def _visit(self, part: Any) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            self.names.add(part.name)
            self.labels |= {matcher.name for matcher in part.matchers.matchers}
        elif isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            self.labels |= set(part.modifier.labels)
        elif isinstance(part, promql_parser.BinaryExpr) and part.modifier is not None:
            self.labels |= set(part.modifier.matching.labels if part.modifier.matching else ())
            self.labels |= set(part.modifier.group_labels or ())


def of_dashboard() -> Iterator[Query]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))
            yield Query(panel["title"], target["expr"], labels=shown)


def of_rules() -> Iterator[Query]:
    for rule in rules():
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        yield Query(rule["alert"], rule["expr"], labels=shown)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@dataclass
class Shown:
    """What processes show.

    Attributes:
        names: of all samples, those of metrics without one yet as they will be.
    """

    families: list[Metric] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def add(self, page: str) -> None:
        for family in text_string_to_metric_families(page):
            self.families.append(family)
            suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(family.type, ("",))
            self.names |= {f"{family.name}{suffix}" for suffix in suffixes}
            self.names |= {sample.name for sample in family.samples}

    @property
    def labels(self) -> dict[str, set[str]]:
        """Values of each label."""
        found: dict[str, set[str]] = {}
        for family in self.families:
            for sample in family.samples:
                for label, value in sample.labels.items():
                    found.setdefault(label, set()).add(value)
        return found

    def value(self, name: str, **labels: str) -> float:
        (found,) = (
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        )
        return found


def page(network: RunningNetwork, port: int, token: str = "") -> str:
    headers = {"Accept": "application/openmetrics-text;version=1.0.0"}  # as Prometheus asks
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"https://localhost:{port}/metrics", headers=headers)
    context = ssl.create_default_context(cafile=str(network.folder.authority_file))
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        return str(answer.read().decode())


@pytest.fixture
def watched(start_network: Callable[..., RunningNetwork]) -> tuple[RunningNetwork, Shown]:
    """Run a round and a failed attempt on a whole network, and return it with what its processes show then."""
    network = start_network(FEDN_LOGGING__FORMAT="json")
    port = network.folder.choose_ports(2, 0).combiners[1]
    network.start_combiner(1, listen_metrics=f"127.0.0.1:{port}")
    network.await_combiners(1)
    (data,) = network.prepared(UNEQUAL, 1)
    network.start_client(1, data)
    network.await_clients(1)
    package, seed = network.uploaded(UNEQUAL)
    assert network.run_session(package, seed, rounds=1).status == "finished"
    failed = network.run_session(package, seed, 1, max_attempts=1, update_timeout_s=0.001)
    assert failed.status != "finished"
    token, _ = network.network.create_token("viewer", "prometheus")
    shown = Shown()
    shown.add(page(network, network.ports.web, token))
    shown.add(page(network, port))
    return network, shown


def test_all_that_is_asked_for_is_shown_and_all_that_is_shown_is_explained(
    watched: tuple[RunningNetwork, Shown],
) -> None:
    network, shown = watched
    queries = [*of_dashboard(), *of_rules()]
    assert len(queries) > 40
    for query in queries:
        assert query.names <= shown.names | OF_PROMETHEUS, query
        assert query.labels <= shown.labels.keys() | LABELS_OF_PROMETHEUS, query
    ours = [family for family in shown.families if family.name.startswith("fedn_")]
    asked = set[str]().union(*(query.names for query in queries))
    for family in ours:
        assert family.documentation.endswith("."), family.name
        assert family.documentation[0].isupper() or family.documentation[0].isdigit(), family.name
        assert family.type == "counter" or family.name.endswith(UNITS) or family.name in COUNTS, family.name
        assert any(name.startswith(family.name) for name in asked), f"nobody looks at {family.name}"
    assert shown.value("fedn_rounds_committed_total") == 1
    assert shown.value("fedn_round_updates_included_total") == 1
    assert shown.value("fedn_round_attempts_failed_total", reason="TooFewUpdates") == 1
    assert shown.value("fedn_reducer_active") == shown.value("fedn_combiner_joined") == 1
    said = set[str]().union(*shown.labels.values())
    assert not said & {"client-1", "combiner-1", *(client.id for client in network.network.clients())}
    for name in ("reducer", "combiner-1", "client-1"):
        lines = [json.loads(line) for line in network.folder.log(name).read_text().splitlines()]
        assert lines, name
        for line in lines:
            assert line["name"] == name
            assert line.keys() >= {"role", "event", "level", "timestamp"}


def test_every_alert_is_explained_and_says_how_bad_it_is() -> None:
    how_to = HOW_TO.read_text()
    assert len(rules()) > 5
    for rule in rules():
        assert f"`{rule['alert']}`" in how_to, rule["alert"]
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_the_dashboard_has_one_data_source_to_choose_and_panels_that_say_what_they_show() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource"]


def test_the_example_of_scraping_names_the_rules_and_shows_a_token_to_each_process() -> None:
    scraping = yaml.safe_load(SCRAPING.read_text())
    assert [SCRAPING.parent / name for name in scraping["rule_files"]] == [RULES]
    for job in scraping["scrape_configs"]:
        assert job["scheme"] == "https"
        assert job["authorization"]["credentials_file"]
        assert job["tls_config"]["ca_file"]
    (down,) = (rule for rule in rules() if rule["alert"] == "FednProcessDown")
    names = re.compile(re.findall(r'job=~"(.*?)"', down["expr"])[0])
    assert all(names.fullmatch(job["job_name"]) for job in scraping["scrape_configs"])


def test_a_query_for_what_is_not_there_is_noticed() -> None:
    query = Query(
        "x", "sum by (nonsense) (rate(fedn_nonsense_total{kind='y'}[5m])) > on (job) group_left (z) fedn_other"
    )
    assert query.names == {"fedn_nonsense_total", "fedn_other"}
    assert query.labels == {"nonsense", "kind", "job", "z"}
