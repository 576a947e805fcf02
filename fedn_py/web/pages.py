"""What a person sees without a token: a front page."""

import html

from flask import Flask, Response

from fedn_py import __version__
from fedn_py.errors import FednError
from fedn_py.reducer.control import Control, StatusView
from fedn_py.web.bridge import Bridge

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fedn_py: {name}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }}
dt {{ font-weight: 600; }} dd {{ margin: 0 0 .5rem; }} code {{ background: #eee; padding: .1em .3em; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #111; color: #eee; }} code {{ background: #333; }} a {{ color: #8cf; }}
}}
</style>
</head>
<body>
<main>
<h1>fedn_py</h1>
<p>This is the reducer of a federated learning network: it trains one model over data that never leaves its owners.</p>
<dl>
<dt>Reducer</dt><dd>{name} (fedn_py {version})</dd>
<dt>State</dt><dd>{state}</dd>
</dl>
<h2>What to do here</h2>
<ul>
<li>On the command line: <code>fedn-py status</code>, <code>fedn-py session list</code>,
<code>fedn-py --help</code></li>
<li>From programs: the REST API under <code>/api/v1</code>, described by
<a href="/api/v1/openapi.json">openapi.json</a>; each call shows a token in the
header <code>Authorization: Bearer TOKEN</code></li>
<li>Probes: <a href="/healthz">/healthz</a> and <a href="/readyz">/readyz</a></li>
</ul>
</main>
</body>
</html>
"""


def install_pages(app: Flask, control: Control, bridge: Bridge) -> None:
    """Add the public pages; they say nothing of sessions, clients or models."""

    @app.route("/")
    def front_page() -> Response:
        try:
            status = bridge.call(control.status())
            name, state = status.reducer, _state(status)
        except FednError as fault:
            name, state = "unknown", f"not ready: {fault.code}"
        page = _PAGE.format(name=html.escape(name), version=__version__, state=html.escape(state))
        return Response(page, mimetype="text/html")


def _state(status: StatusView) -> str:
    if not all(store.healthy for store in status.stores):
        return "not ready: a store does not answer"
    return "idle" if status.active_session is None else f"a session is under way ({status.phase})"
