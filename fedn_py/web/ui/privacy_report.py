"""A session's privacy as one file to keep: HTML that needs nothing from elsewhere."""

from flask import render_template

from fedn_py.reducer.privacy_words import PrivacyView
from fedn_py.web.ui.exposures import SYMBOLS, exposures


def privacy_report(view: PrivacyView) -> str:
    """Return the report, within a request of somebody who may look."""
    return render_template("privacy_report.html", view=view, table=exposures(view), symbols=SYMBOLS)
