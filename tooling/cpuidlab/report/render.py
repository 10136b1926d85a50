"""Render the templates in templates/: every value is escaped, and a value that is missing is an error."""

from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("cpuidlab.report"), autoescape=True, undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip


def render(template: str, **values: Any) -> str:
    """Return the page that the template makes of the values."""
    return _ENVIRONMENT.get_template(template).render(**values)
