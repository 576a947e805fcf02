"""One module a page; each adds its routes to the site."""

from collections.abc import Callable

from fedn_py.web.ui.pages import (
    api,
    clients,
    events,
    models,
    network,
    new_session,
    privacy,
    rounds,
    sessions,
    sign_in,
    start,
    validation,
)
from fedn_py.web.ui.site import Site

PAGES: tuple[Callable[[Site], None], ...] = (
    sign_in.install,
    start.install,
    new_session.install,
    sessions.install,
    rounds.install,
    network.install,
    models.install,
    validation.install,
    events.install,
    privacy.install,
    clients.install,
    api.install,
)
