"""A browser of the tests' own: it keeps cookies and shows nothing."""

import re
from http.cookies import SimpleCookie
from urllib.parse import urlencode

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

    def sign_in(self, token: str, then: str = "") -> Answer:
        """Fill in the page to sign in and send it."""
        place = f"/sign-in?then={then}" if then else "/sign-in"
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.page(place))
        assert found is not None
        here = f"https://localhost:{self.served.port}/sign-in"
        return self.ask("POST", place, urlencode({"token": token, "csrf_token": found[1]}).encode(), Referer=here)

    @property
    def csrf(self) -> str:
        found = re.search(r'data-csrf="([^"]+)"', self.ask("GET", "/").body.decode())
        assert found is not None
        return found[1]
