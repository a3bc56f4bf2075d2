# SPDX-License-Identifier: Apache-2.0
"""Settings of the documentation; ``make docs`` builds it into docs/_build/html."""

import re
from typing import Any

from sphinx_gallery.sorting import ExplicitOrder

from sklearn_v2s import __version__

project = "sklearn_v2s"
author = "The sklearn-v2s developers"
copyright = "the sklearn-v2s developers"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
# What stands in single backticks is a name: a link where that name has a page.
default_role = "py:obj"
add_module_names = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_default_options = {"inherited-members": True}
numpydoc_show_class_members = False
# Short methods have one line and records their attributes, hence no PR01 and RT01;
# a returned value may have a name (RT02), and See Also and examples are not forced.
numpydoc_validation_checks = {
    "all", "ES01", "EX01", "SA01", "PR01", "RT01", "RT02", "YD01",
}  # fmt: skip
# Here numpydoc looks at the docstring of dict.
numpydoc_validation_exclude = {r"\.FRONT_ENDS$"}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "ignore_pattern": r"demo\.py",
    # Only what is printed, not what the last call of a cell happens to return.
    "capture_repr": (),
    # From the first steps to what few will need; others at the end.
    "within_subsection_order": ExplicitOrder(
        [
            "plot_quick_start.py",
            "plot_against_rocket.py",
            "plot_multivariate.py",
            "plot_pipelines.py",
            "plot_explain.py",
            "plot_grid_search.py",
            "plot_baselines.py",
            "plot_architectures.py",
            "*",
        ]
    ),
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklearn_v2s",),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_v2s"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
}


def skip_foreign_members(
    app: Any, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what Python, scikit-learn, skorch or torch define and document."""
    function = getattr(member, "fget", member)
    module = getattr(function, "__module__", None) or ""
    return None if module.startswith("sklearn_v2s") else True


def link_cards(app: Any, docname: str, content: list[str]) -> None:
    """Lead from the model cards, which lie in the package, to their page here."""
    content[0] = re.sub(
        r"\]\(\.\./sklearn_v2s/sources/checkpoints/([\w-]+)\.md\)",
        r"](model_cards.md#source-model-\1)",
        content[0],
    )


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("autodoc-skip-member", skip_foreign_members)
    app.connect("source-read", link_cards)
