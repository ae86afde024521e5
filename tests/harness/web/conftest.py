"""The page on a real server, and people who speak HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from harness.feedback.items import Item
from harness.feedback.store import FILE, Store


class Person:
    """An annotator who sends what the page's script sends."""

    def __init__(self, address: str, name: str):
        self.host = urlsplit(address).netloc
        self.name = name
        self.connection: HTTPConnection | None = None

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and the answer; OSError or HTTPException where the server does not answer."""
        if self.connection is None:
            self.connection = HTTPConnection(self.host, timeout=10)
        headers = {
            "Content-Type": "application/json",
            "Origin": f"http://{self.host}",
            "Cookie": f"rlhf_ladder_annotator={quote(self.name)}",
        }
        try:
            self.connection.request("POST", path, json.dumps(body), headers)
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read())
        except Exception:
            self.connection.close()
            self.connection = None
            raise


@pytest.fixture
def served(tmp_path):
    """served(items, **options) gives, while its block lasts, the address and the store."""
    pytest.importorskip("uvicorn", reason="the extra [label] is not installed")
    from harness.web.labelling import Labelling
    from harness.web.server import serving

    @contextmanager
    def serve(
        items: list[Item], host: str = "127.0.0.1", port: int = 0, **options: Any
    ) -> Iterator[tuple[str, Store]]:
        with Store(Path(tmp_path, FILE), **options) as store:
            store.add(items)
            with serving(Labelling(store).app(), host, port) as site:
                yield site.address, store

    return serve
