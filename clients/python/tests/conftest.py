"""The tests run against a real realm. test/clients/python.test.ts starts one, and sets the environment."""

import os
from pathlib import Path

import pytest
from chamberlain_client import Client


def make_client(url: str) -> Client:
    return Client(
        url,
        realm=os.environ["REALM"],
        portal=os.environ["PORTAL"],
        kid=os.environ["PORTAL_KID"],
        key=Path(os.environ["PORTAL_KEY"]).read_bytes(),
        events_key=Path(os.environ["EVENTS_KEY"]).read_bytes(),
    )


@pytest.fixture
def client() -> Client:
    return make_client(os.environ["API_URL"])
