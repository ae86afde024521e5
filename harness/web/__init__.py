"""Pages for people, served from this machine: labelling, and what else is shown in a browser.

Needs the extra [label]; everything that a page loads is in this folder.
"""
