"""Pages that follow the network by themselves: at once, in many tabs, and where no stream gets through."""

from people import LiveSandbox, Person
from playwright.sync_api import BrowserContext, Page, Route, expect


def change(sandbox: LiveSandbox, page: Page, label: str) -> None:
    """Change something in the network, and see a page of tokens show it because it was told, not when it looks anew."""
    # A page looks anew every 30 s as well; what it hears, by the stream or from another tab, has a higher number.
    before = page.evaluate("seen")
    sandbox.network.create_token("viewer", label)
    expect(page.locator("main")).to_contain_text(label)
    assert page.evaluate("seen") > before


def test_a_page_follows_without_being_loaded_again(sandbox: LiveSandbox, person: Person) -> None:
    page = person.page
    page.goto(f"{sandbox.url}/clients")
    page.evaluate("document.body.dataset.mark = 'still the same page'")
    change(sandbox, page, "somebody new")
    assert page.evaluate("document.body.dataset.mark") == "still the same page"


def test_a_page_follows_where_no_stream_gets_through(
    sandbox: LiveSandbox, person: Person, context: BrowserContext
) -> None:
    def cut(route: Route) -> None:
        route.abort()

    person.page.close()  # it holds a stream, of which it would tell
    context.route("**/live", cut)
    page = context.new_page()
    page.goto(f"{sandbox.url}/clients")
    with page.expect_request("**/live/poll*"):
        change(sandbox, page, "somebody who is polled for")


def test_more_tabs_than_a_browser_opens_connections_all_load_and_follow(
    sandbox: LiveSandbox, person: Person, context: BrowserContext
) -> None:
    tabs = [context.new_page() for _ in range(8)]
    for tab in tabs:
        tab.goto(f"{sandbox.url}/clients")
    change(sandbox, tabs[-1], "somebody for all tabs")
    heard = tabs[-1].evaluate("seen")
    for tab in tabs:
        tab.wait_for_function("number => seen >= number", arg=heard)
        expect(tab.locator("main")).to_contain_text("somebody for all tabs")
    # The tab that held the stream goes; another one takes it.
    person.page.close()
    tabs[0].close()
    change(sandbox, tabs[-1], "somebody for those that are left")


def test_a_tab_asks_the_others_for_what_it_has_missed_while_it_was_loaded(
    sandbox: LiveSandbox, person: Person, context: BrowserContext
) -> None:
    late: list[Route] = []

    def hold_back(route: Route) -> None:
        late.append(route)

    second = context.new_page()
    second.route("**/fedn.js*", hold_back)
    second.goto(f"{sandbox.url}/clients", wait_until="commit")
    second.wait_for_selector("main")
    before = person.page.evaluate("seen")
    sandbox.network.create_token("viewer", "somebody in between")
    person.page.wait_for_function("number => seen > number", arg=before)
    while not late:
        second.wait_for_timeout(50)
    late[0].continue_()
    second.wait_for_function("number => typeof seen === 'number' && seen > number", arg=before)
    expect(second.locator("main")).to_contain_text("somebody in between")
