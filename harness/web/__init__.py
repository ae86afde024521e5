"""Pages for people, served from this machine: labelling, and what else is shown in a browser.

Needs the extra [label]; everything that a page loads is in this folder.
"""

# What the pages are made and served with: the extra `label`.
PACKAGES = ("starlette", "uvicorn", "jinja2", "markdown_it", "pygments")
