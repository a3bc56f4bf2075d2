# SPDX-License-Identifier: Apache-2.0
"""The documentation: code that runs, links that resolve, no public name left out."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import sklearn_v2s

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# What the build writes is not ours to check.
BUILT = ("_build", "auto_examples", "generated")
PAGES = [
    path
    for path in sorted(DOCS.rglob("*.md"))
    if path.relative_to(DOCS).parts[0] not in BUILT
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SESSION = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSIONS = [path for path in PAGES if SESSION.search(path.read_text(encoding="utf-8"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchor(heading: str) -> str:
    """Return the anchor of a heading, by the rule of GitHub and of MyST."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def documented_names() -> list[str]:
    """Return the full names that the API page lists."""
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    names, module, listed = [], "", False
    for line in text.splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        listed = line.startswith((".. autosummary::", "   ")) if line else listed
        if listed and re.fullmatch(r"   [A-Za-z_][\w.]*", line):
            names.append(f"{module}.{line.strip()}")
    return names


def resolve(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def public_names() -> list[str]:
    """Return what the package and its sub-packages export."""
    packages = [sklearn_v2s] + [
        importlib.import_module(f"sklearn_v2s.{found.name}")
        for found in pkgutil.iter_modules(sklearn_v2s.__path__)
        if found.ispkg
    ]
    return [
        f"{package.__name__}.{name}"
        for package in packages
        for name in getattr(package, "__all__", ())
        if not name.startswith("__")
    ]


@pytest.mark.parametrize("path", SESSIONS, ids=name_of)
def test_the_code_of_a_page_prints_what_the_page_says(path, forget_sources):
    # Other examples of this process may have given names to sources.
    forget_sources()
    text = path.read_text(encoding="utf-8")
    # Blank lines instead of the text between, so that failures name the right line.
    code, end = "", 0
    for session in SESSION.finditer(text):
        code += "\n" * text[end : session.start(1)].count("\n") + session[1]
        end = session.end(1)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(code, {}, path.name, str(path), 0)
    runner = doctest.DocTestRunner(optionflags=options)
    report: list[str] = []
    result = runner.run(test, out=report.append)
    assert result.attempted == len(re.findall(r"^>>> ", code, re.MULTILINE)) > 0
    assert not result.failed, "".join(report)


def test_the_pages_with_answers_have_code():
    pages = {name_of(path) for path in SESSIONS}
    assert {"docs/faq.md", "docs/index.md"} <= pages
    assert len([name for name in pages if "user_guide" in name]) >= 5


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_to_pages_and_headings_resolve(path):
    text = re.sub(
        r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, fragment = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.M)
            assert fragment in map(anchor, headings), target
    for target in re.findall(r"\{doc\}`[^<`]*<([^>`]+)>`", text):
        assert target.startswith(("/auto_examples/", "auto_examples/")), target
        name = target.rpartition("/")[2]
        assert name == "index" or (ROOT / "examples" / f"{name}.py").is_file(), target


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_page_stands_in_a_table_of_contents(path):
    listed = {"docs/index"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.M | re.S):
            for line in filter(None, block.splitlines()):
                # A page by itself, or after a title; from here, or from the top.
                entry = re.sub(r"^.*<(.*)>$", r"\1", line)
                folder = DOCS if entry.startswith("/") else page.parent
                listed |= {
                    name_of(found.with_suffix(""))
                    for found in folder.glob(f"{entry.lstrip('/')}.md")
                    if not entry.startswith(":")
                }
    assert name_of(path.with_suffix("")) in listed


def test_the_api_page_has_every_public_name_once():
    names = documented_names()
    assert len(names) == len(set(names)) > 50
    documented = [resolve(name) for name in names]
    missing = [
        name
        for name in public_names()
        if not any(resolve(name) is each for each in documented)
    ]
    assert not missing


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_examples_compile_and_have_a_title(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    compile(tree, str(path), "exec")
    title, rule = (ast.get_docstring(tree) or "").splitlines()[:2]
    assert set(rule) == {"="}
    assert len(rule) == len(title)
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")


def test_every_gallery_example_is_mentioned_in_the_documents():
    documents = [*PAGES, ROOT / "README.md", ROOT / "examples" / "GALLERY_HEADER.rst"]
    text = "".join(path.read_text(encoding="utf-8") for path in documents)
    gallery = [path.stem for path in EXAMPLES if path.stem.startswith("plot_")]
    assert len(gallery) >= 7
    assert not [name for name in gallery if name not in text]
