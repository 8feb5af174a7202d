"""Addresses in the course's texts, as they are in the book."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection


def page_address(path: str) -> str:
    """The page of a notebook or text: `solutions/a.ipynb` is `solutions/a.html`."""
    folder, name = posixpath.split(path)
    if name == "README.md":
        return posixpath.join(folder, "index.html")
    return re.sub(r"\.(ipynb|md)$", ".html", path)


def address_in_book(address: str, page: str, pages: Collection[str]) -> str | None:
    """Where a link of a page leads in the book.

    Args:
        address: as the text has it, relative to its own file, or on the web.
        page: address of the page that the text stands on.
        pages: of all pages of the book, from its folder.

    Returns:
        The address, relative to the page; None where the book has no such page.
    """
    if re.match(r"[a-z]+:|#", address):
        return address
    path, hash_sign, fragment = address.partition("#")
    folder = posixpath.dirname(page)
    target = posixpath.normpath(posixpath.join(folder, page_address(path)))
    if target not in pages:
        return None
    return posixpath.relpath(target, folder or ".") + hash_sign + fragment
