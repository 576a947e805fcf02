"""What the pages say of the repository is there: links, anchors, make targets, words of the changelog and decisions."""

import re
from pathlib import Path

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
MAKE = re.compile(r"\bmake ((?:[a-z][a-z-]*)(?: [A-Z_]+=\S+)*)")
STATUS = re.compile(r"^Status: (proposed|accepted|replaced by \[\d{4}\]\(\d{4}-[a-z0-9-]+\.md\))$", re.MULTILINE)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


def test_every_relative_link_leads_to_a_file_and_a_heading_that_exist(pages: list[Path], root: Path) -> None:
    broken = [f"{page.relative_to(root)} -> {target}" for page in pages for target in broken_links(page)]
    assert broken == []


def test_every_page_under_docs_can_be_reached_from_the_index(root: Path) -> None:
    reached, waiting = set(), [root / "docs/index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        targets = [target.partition("#")[0] for target in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", target)]
        waiting += [(page.parent / target).resolve() for target in targets if target.endswith(".md")]
    assert set((root / "docs").rglob("*.md")) - reached - {root / "docs/adr/template.md"} == set()


def test_every_picture_that_a_page_shows_exists_and_is_told_in_words(pages: list[Path], root: Path) -> None:
    shown = [(page, words, target) for page in pages for words, target in IMAGE.findall(prose(page))]
    assert shown
    assert [f"{page.relative_to(root)}: {words}" for page, words, target in shown if not words.strip()] == []
    missing = [
        f"{page.relative_to(root)} -> {target}" for page, _, target in shown if not (page.parent / target).exists()
    ]
    assert missing == []


def test_every_picture_of_the_tutorial_is_shown_is_as_wide_as_the_others_and_is_small(
    pages: list[Path], root: Path
) -> None:
    pictures = set((root / "docs/tutorial/images").iterdir())
    shown = {(page.parent / target).resolve() for page in pages for _, target in IMAGE.findall(prose(page))}
    assert pictures - shown == set()
    for picture in pictures:
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG"), picture.name
        assert int.from_bytes(content[16:20], "big") == 1280, picture.name
        assert len(content) <= 150_000, picture.name


def test_every_make_target_that_a_page_names_exists(pages: list[Path], root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^(?: {4}|\$ )?(make .*)$", text, re.MULTILINE)
        named |= {found.split()[0] for snippet in code for found in MAKE.findall(snippet)}
    assert named
    assert named <= targets


def test_every_make_target_for_people_says_what_it_does(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    inner = {"gates", "servers"}
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split()) - inner
    assert targets == set(re.findall(r"^([a-z-]+):.*  ## .+$", makefile, re.MULTILINE))


def test_the_changelog_has_a_part_for_what_is_not_released_yet(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## Unreleased$", text, re.MULTILINE)


def test_decisions_are_numbered_without_a_gap_and_each_has_a_status_and_a_line_in_the_list(root: Path) -> None:
    decisions = sorted((root / "docs/adr").glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in decisions] == list(range(1, len(decisions) + 1))
    listed = (root / "docs/adr/README.md").read_text(encoding="utf-8")
    for page in decisions:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {page.name[:4]}. "), page.name
        assert STATUS.search(text), page.name
        assert f"({page.name})" in listed, page.name


def test_the_licence_is_apache_2_and_the_wheel_says_so(root: Path) -> None:
    licence = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "9. Accepting Warranty or Additional Liability" in licence
    assert 'license = "Apache-2.0"' in (root / "pyproject.toml").read_text(encoding="utf-8")
