"""No file of the repository names a host that it has no business with: nothing is fetched behind anyone's back."""

import re
from pathlib import Path

URL = re.compile(r"\bhttps?://(?:[^/\s:@\"'`]*:[^/\s@\"'`]*@)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)")

# This machine, names set aside for examples, services of the compose file, and where licences and schemas live.
THIS_MACHINE = re.compile(r"localhost|127(\.\d+){3}|0\.0\.0\.0|\[::1?\]|\[[0-9a-fA-F:]+\]|(\d+\.){3}\d+")
EXAMPLES = re.compile(r"([a-z0-9-]+\.)*(example(\.(org|com|net))?|test|invalid)")
COMPOSE = {"mongodb", "mongo-express", "minio", "reducer", "combiner-1", "combiner-2"}
NAMED_ON_PURPOSE = {
    "www.apache.org",  # the licence's own address
    "json-schema.org",  # names a schema, is not asked
    "www.w3.org",  # names a namespace, is not asked
}


# Files of others name their origin; that pages ask no other host is seen in a browser.
OF_OTHERS = "fedn_py/web/ui/static/vendor/"


def foreign_hosts(text: str) -> set[str]:
    hosts = {host.rstrip(".").lower() for host in URL.findall(text)}
    return {
        host
        for host in hosts
        if host
        and not THIS_MACHINE.fullmatch(host)
        and not EXAMPLES.fullmatch(host)
        and host not in COMPOSE
        and host not in NAMED_ON_PURPOSE
        and "." in host
    }


def test_no_file_names_a_host_that_is_neither_local_nor_an_example(files: list[Path], root: Path) -> None:
    found = {}
    for path in files:
        try:
            hosts = foreign_hosts(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
        name = str(path.relative_to(root))
        if hosts and not name.startswith(OF_OTHERS):
            found[name] = hosts
    assert found == {}
