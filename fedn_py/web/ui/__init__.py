"""The pages that people see: server-made HTML, kept up to date by htmx, over the same Control as REST."""

from fedn_py.web.ui.site import Site, install_pages

__all__ = ["Site", "install_pages"]
