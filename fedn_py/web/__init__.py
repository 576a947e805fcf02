"""The reducer's web face: REST API and front page, over the Control that the reducer gives."""

from fedn_py.web.application import create_app
from fedn_py.web.server import WebServer, serve_web
from fedn_py.web.standby import create_standby_app
from fedn_py.web.surroundings import surroundings_of

__all__ = ["WebServer", "create_app", "create_standby_app", "serve_web", "surroundings_of"]
