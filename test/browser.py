"""A browser of the tests' own: it keeps cookies and shows nothing."""

import re
from http.cookies import SimpleCookie

from web_server import Answer, Served


class Browser:
    """Keeps cookies, as a browser does."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.cookies: dict[str, str] = {}
        self.set_cookie = ""

    def page(self, path: str) -> str:
        """Return a page's HTML, of one that is there."""
        answer = self.ask("GET", path)
        assert answer.status == 200, (path, answer.status, answer.body[:500])
        return answer.body.decode()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        sent = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()), **headers}
        if body is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        answer = self.served.ask(method, path, body, headers=sent)
        self.set_cookie = answer.headers.get("set-cookie", self.set_cookie)
        for name, morsel in SimpleCookie(answer.headers.get("set-cookie", "")).items():
            self.cookies[name] = morsel.value
        return answer

    def enter(self, token: str) -> None:
        link = self.served.ask("POST", "/api/v1/sign-in-links", token=token).json["path"]
        assert self.ask("GET", link).status == 200

    @property
    def csrf(self) -> str:
        found = re.search(r'data-csrf="([^"]+)"', self.ask("GET", "/").body.decode())
        assert found is not None
        return found[1]
