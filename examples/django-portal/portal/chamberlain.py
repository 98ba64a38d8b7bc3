"""All that speaks to Chamberlain. Nothing else in the portal uses its client."""

import logging
from functools import cache
from pathlib import Path

from chamberlain_client import Client, EventsGone, Problem, Unreachable
from django.conf import settings

from .models import Sent

log = logging.getLogger(__name__)

#: Chamberlain has not answered a question. What was stored is sent again by `listen`.
AWAY = (Unreachable, Problem)


@cache
def client() -> Client:
    given = settings.CHAMBERLAIN
    files = {name: Path(given[name]).read_bytes() for name in ("key", "events_key")}
    return Client(**{**given, **files})


def submit(user, kind: str, requested_by: str, **fields) -> Sent:
    """Stores a request of a person, then sends it, and waits some seconds for its verdict."""
    sent = Sent.objects.create(user=user, kind=kind, requested_by=requested_by, fields=fields)
    deliver(sent)
    return sent


def deliver(sent: Sent) -> None:
    """Sends a request, perhaps again: with the same id it counts once. It is signed each time, because a token ends."""
    try:
        request = client().sign(sent.kind, requestedBy=sent.requested_by, id=str(sent.id), **sent.fields)
        outcome = client().send(request, wait="verdict", seconds=5)
        sent.advance(outcome.verdict, outcome.sentence)
    except AWAY as error:
        if getattr(error, "code", None) == "REQUEST_MALFORMED":
            sent.advance("refused", error.detail)
        log.warning("request %s: %s", sent.id, error)


def send_again() -> None:
    for sent in Sent.objects.filter(state="new").order_by("created"):
        deliver(sent)


def objection(kind: str, requested_by: str, **fields) -> str | None:
    """Why the request would be refused now."""
    return client().check(kind, requestedBy=requested_by, **fields).sentence


def key_objection(key: str) -> str | None:
    """What the parser says against a pasted SSH key."""
    return client().check_key(key).get("sentence")


def name_objection(name: str, of: str) -> str | None:
    """Why nobody can get that name; `of` is "person" or "tool"."""
    found = client().name(name, of=of)
    return None if found["state"] == "free" else found.get("sentence", "This is not a name.")


def person(name: str) -> dict | None:
    return client().person(name)


def tool(name: str) -> dict | None:
    return client().tool(name)


def events(after: int, stop):
    """The events after that number. Asks `stop` between two calls whether to end; a call waits up to 10 s, a pause up to 30 s."""
    try:
        yield from client().events(after, stop=stop, seconds=10)
    except EventsGone as gone:
        log.error("%s: look at the API for what they said", gone)
        yield from events(gone.removed, stop)
