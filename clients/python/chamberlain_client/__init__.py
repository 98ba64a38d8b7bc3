"""A client of Chamberlain's HTTP API, for portals. docs/api.md of Chamberlain describes the API itself.

    client = Client("http://127.0.0.1:8466", realm="tools", portal="portal", kid="portal-1",
                    key=Path("portal.pem").read_bytes())
    request = client.sign("tool.create", requestedBy="alice", name="newbot", title="A new bot")
    save(request)                       # before it is sent: sent again, it counts once
    outcome = client.send(request, wait="done")

Nothing is kept here, and no thread is started. One client may be used by several threads.
"""

from __future__ import annotations

import base64
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

__all__ = ["Client", "Event", "EventsGone", "Outcome", "Problem", "Request", "Unreachable"]

Json = dict[str, Any]

log = logging.getLogger(__name__)

#: How long a request is valid, in seconds; at most 7 days.
REQUEST_SECONDS = 24 * 3600
#: How long the token of one call is valid, in seconds; at most 300.
CALL_SECONDS = 60
#: How long an answer may take beyond the time for which the API was asked to wait, in seconds.
ANSWER_SECONDS = 15
#: The longest time that one call may wait for an outcome or for events, in seconds.
MOST_WAIT_SECONDS = 60
#: Pauses between two attempts to receive events while the API is away, in seconds.
PAUSE = {"first": 0.5, "growth": 2, "most": 30}


class Problem(Exception):
    """The API has refused a call (RFC 9457). `code` is stable; `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str, retry_after: float | None) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        #: after how many seconds it may succeed; None if it never will
        self.retry_after = retry_after


class Unreachable(Exception):
    """The API has not answered, or a proxy has in its place. A request may have arrived nevertheless: send the same one again."""


class EventsGone(Exception):
    """Events after `after`, up to `removed`, are not kept any more: learn in another way what they said."""

    def __init__(self, after: int, removed: int) -> None:
        super().__init__(f"events {after + 1} to {removed} are not kept any more")
        self.after = after
        self.removed = removed


@dataclass(frozen=True)
class Request:
    """A signed request. Keep it until it has its verdict, to send it again."""

    id: str
    token: str


@dataclass(frozen=True)
class Outcome:
    """What has become of a request."""

    id: str
    #: "accepted" or "refused"; None if it has none yet
    verdict: str | None
    #: every role has applied what the request changed
    done: bool = False
    #: an admin must approve it
    waiting: bool = False
    #: an admin has rejected it
    rejected: bool = False
    #: why it was refused, or why a role has given up
    code: str | None = None
    #: for people: why it was refused or given up; if `waiting`, why it waits; if `rejected`, the admin's reason
    sentence: str | None = None


@dataclass(frozen=True)
class Event:
    """What has happened. `raw` has all fields, as docs/portals.md lists them."""

    seq: int
    event: str
    request: str | None
    subject: int | None
    code: str | None
    data: Json
    raw: Json


class Client:
    """Speaks to one realm for one portal.

    url: of the API, such as "https://chamberlain.example.org"
    realm, portal, kid: as in the configuration of the realm; an admin's own key is of the portal "admin.NAME"
    key: the bytes of the file with the portal's Ed25519 key, PKCS #8 in PEM
    events_key: the realm's public key for events, in PEM; only `events` needs it
    session: of `requests`, for example with `verify` set to the file of an authority
    """

    def __init__(
        self,
        url: str,
        *,
        realm: str,
        portal: str,
        kid: str,
        key: bytes,
        events_key: bytes | None = None,
        session: requests.Session | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._realm, self._portal, self._kid = realm, portal, kid
        private = load_pem_private_key(key, password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("the key must be an Ed25519 key")
        self._key = private
        self._events_key: Ed25519PublicKey | None = None
        if events_key is not None:
            public = load_pem_public_key(events_key)
            if not isinstance(public, Ed25519PublicKey):
                raise ValueError("the key for events must be an Ed25519 key")
            self._events_key = public
        self._session = session or requests.Session()

    # ---- requests -------------------------------------------------------------------------------

    def sign(
        self,
        kind: str,
        *,
        requestedBy: str,
        approvedBy: str | None = None,
        id: str | None = None,
        check: bool = False,
        **fields: Any,
    ) -> Request:
        """Signs a request of a person. `fields` are those of the kind: docs/portals.md lists them.

        approvedBy: the person who approved it in the portal, if that was somebody else
        id: a UUID of your own; a new one by default
        check: the request is only a question, see `check`
        """
        id = (id or str(uuid.uuid4())).lower()  # as the API names it
        now = int(time.time())
        claims: Json = {
            "iss": self._portal,
            "aud": self._realm,
            "jti": id,
            "iat": now,
            "exp": now + REQUEST_SECONDS,
            "sub": approvedBy or requestedBy,
            "request": {"kind": kind, "requestedBy": requestedBy, **fields},
        }
        if check:
            claims["check"] = True
        return Request(id, self._token(claims))

    def send(self, request: Request, *, wait: str | None = None, seconds: float = 30) -> Outcome:
        """Sends a request. The same one may be sent again and again: it counts once.

        Raises Problem if the API refuses the call, and Unreachable if it does not answer. A refusal of the request
        itself is an Outcome with the verdict "refused".

        wait: None, "verdict", or "done" (until everything is applied, or nothing more comes by itself)
        seconds: the longest wait; then the outcome is what is known by then
        """
        query = {} if wait is None else {"wait": wait, "seconds": _number(seconds)}
        return self._ask("/v1/requests", query, request, seconds if wait else 0)

    def wait(self, request: Request, *, seconds: float = 300) -> Outcome:
        """Sends a request, again and again, until it is done, refused, rejected, given up or waits for an admin.

        Tries again while the API is away. After the seconds it returns what is known. Raises Problem for what the
        API refuses.
        """
        end = time.monotonic() + seconds
        pauses = _pauses()
        outcome = Outcome(request.id, None)
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return outcome
            try:
                outcome = self.send(request, wait="done", seconds=min(left, MOST_WAIT_SECONDS))
                if _is_over(outcome):
                    return outcome
                pauses = _pauses()
            except (Problem, Unreachable) as error:
                pause = _pause_after(error, pauses)
                log.warning("no outcome for now: %s", error)
                time.sleep(max(0.0, min(pause, end - time.monotonic())))

    def check(self, kind: str, *, requestedBy: str, **fields: Any) -> Outcome:
        """Says what the verdict on a request would be now. Nothing is done, and nothing recorded."""
        question = self.sign(kind, requestedBy=requestedBy, check=True, **fields)
        return self._ask("/v1/checks", {}, question, ANSWER_SECONDS)

    # ---- reading --------------------------------------------------------------------------------

    def read(self, path: str, **query: Any) -> Any:
        """What the API says at that path, such as "/v1/kinds". See docs/api.md for the paths."""
        return self._json("GET", path, query)

    def person(self, name: str) -> Json | None:
        """A person; None if there is none, or the portal may not see them."""
        return self._find("/v1/people/", name)

    def tool(self, name: str) -> Json | None:
        """A tool; None if there is none."""
        return self._find("/v1/tools/", name)

    def request(self, id: str) -> Json | None:
        """How a request of the portal stands: its `state`, and role by role. None if it has no verdict yet.

        `state` is "accepted", "done", "stuck" (a role has given up), "waiting" (for an admin), "rejected" or "refused".
        """
        return self._find("/v1/requests/", id)

    def name(self, name: str, *, of: str | None = None) -> Json:
        """Whether a name is free: `state` is "free", "taken", "reserved" or "invalid".

        If it is not free, `sentence` says why, unless no path of the API can hold the name.

        of: "person" or "tool"; without it, "tools.x" is the name of a tool, and any other that of a person
        """
        if name.strip(".") == "":
            return {"name": name, "of": of, "state": "invalid"}  # no path can hold it
        answer: Json = self.read("/v1/names/" + _segment(name), of=of)
        return answer

    def check_key(self, key: str) -> Json:
        """What the parser says of a pasted SSH key: `accepted`; if it is False, `sentence` says what to do.

        An accepted key has `type`, `bits`, `fingerprint`, `line` (the key alone), `options` and `label` (the comment).
        """
        body = json.dumps({"key": key})
        answer: Json = self._json("POST", "/v1/keys/check", {}, body, "application/json")
        return answer

    def pages(self, path: str, **query: Any) -> Iterator[Json]:
        """The items of a list, of all its pages."""
        while True:
            page = self.read(path, **query)
            yield from page["items"]
            if page.get("next") is None:
                return
            query = {**query, "after": page["next"]}

    # ---- events ---------------------------------------------------------------------------------

    def events(
        self, after: int, *, stop: Callable[[], bool] = lambda: False, seconds: float = 30
    ) -> Iterator[Event]:
        """The events after that number, in order, for as long as the caller takes them.

        An event counts as received as soon as the next one is asked for. So store its number where you store what
        it changed, before that, and begin there after an interruption: an event may come again, but none is lost.
        While the API is away, it is asked again. Raises EventsGone: go on after `removed`. Events that were received
        before come again within a few seconds.

        stop: is asked between two calls whether to end
        seconds: how long one call waits for events
        """
        if self._events_key is None:
            raise ValueError("give events_key to receive events")
        pauses = _pauses()
        while not stop():
            try:
                query = {"after": after, "seconds": _number(seconds)}
                answer = self._call("GET", "/v1/events", query, wait=seconds, expected="application/jwt")
            except (Problem, Unreachable) as error:
                pause = _pause_after(error, pauses)
                log.warning("no events for now: %s", error)
                time.sleep(pause)
                continue
            pauses = _pauses()
            if answer.status_code == 204:
                continue
            claims = self._verify(answer.text)
            removed = claims.get("removed")
            if removed is not None and claims["after"] <= after < removed:
                raise EventsGone(after, removed)
            if claims["after"] > after:
                continue  # they are not the next ones: the API goes back to `after`
            for raw in claims["events"]:
                if raw["seq"] > after:
                    yield _event(raw)
                    after = raw["seq"]

    # ---- inside ---------------------------------------------------------------------------------

    def _verify(self, token: str) -> Json:
        """The claims of a token that the relay has signed for this portal."""
        head, _, signature = token.strip().rpartition(".")
        assert self._events_key is not None
        try:
            self._events_key.verify(_bytes_of(signature), head.encode())
            header, claims = (json.loads(_bytes_of(part)) for part in head.split("."))
        except (InvalidSignature, ValueError) as error:
            raise ValueError("the events are not signed by the realm's key for events") from error
        if header.get("alg") != "EdDSA" or claims.get("aud") != self._portal:
            raise ValueError("the events are not for this portal")
        found: Json = claims
        return found

    def _token(self, claims: Json) -> str:
        header = {"alg": "EdDSA", "kid": self._kid}
        text = ".".join(_text_of(json.dumps(part).encode()) for part in (header, claims))
        return f"{text}.{_text_of(self._key.sign(text.encode()))}"

    def _ask(self, path: str, query: Mapping[str, Any], request: Request, wait: float) -> Outcome:
        found = self._json("POST", path, query, request.token, "application/jwt", wait)
        if not isinstance(found, dict) or found.get("id") != request.id.lower() or "verdict" not in found:
            raise Unreachable(f"POST {self._url}{path}: the answer does not name the request")
        return _outcome(found)

    def _find(self, path: str, name: str) -> Json | None:
        try:
            found: Json = self.read(path + _segment(name))
            return found
        except Problem as problem:
            if problem.code == "NOT_FOUND":
                return None
            raise

    def _json(self, method: str, path: str, *call: Any) -> Any:
        answer = self._call(method, path, *call)
        try:
            return answer.json()
        except ValueError:
            raise Unreachable(f"{method} {self._url}{path}: the answer is cut off") from None

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: str | None = None,
        content_type: str | None = None,
        wait: float = 0,
        expected: str = "application/json",
    ) -> requests.Response:
        """What the API answers.

        A proxy may answer in its place, for example while the API restarts or after a change of its address: that says
        nothing about what was asked.
        """
        given = {name: value for name, value in query.items() if value is not None}
        target = path + (f"?{urlencode(given)}" if given else "")
        now = int(time.time())
        call = self._token(
            {
                "iss": self._portal,
                "aud": f"{self._realm}/api",
                "jti": str(uuid.uuid4()),
                "iat": now,
                "exp": now + CALL_SECONDS,
                "htm": method,
                "htu": target,
            }
        )
        headers = {"Authorization": f"Chamberlain {call}"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        try:
            answer = self._session.request(
                method,
                self._url + target,
                data=None if body is None else body.encode(),
                headers=headers,
                timeout=(5, wait + ANSWER_SECONDS),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            if isinstance(error, ValueError):
                raise ValueError(f"not the address of an API: {self._url}{path}") from error
            # its message holds the whole query
            reason = type(error).__name__
            raise Unreachable(f"{method} {self._url}{path}: {reason}") from None
        is_framed = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
        if not is_framed and answer.status_code != 204:
            # `requests` does not notice an answer that ends within its headers
            raise Unreachable(f"{method} {path}: the answer was cut off")
        status, found = answer.status_code, answer.headers.get("Content-Type", "")
        found = found.lower().partition(";")[0].strip()
        if status == 204 or (status < 300 and found == expected):
            return answer
        problem = _problem(answer) if status >= 300 and found == "application/problem+json" else None
        stated = f"status {status}, content type {found or 'none'}"
        raise problem or Unreachable(f"{method} {self._url}{path}: the answer is not from the API: {stated}")


def _problem(answer: requests.Response) -> Problem | None:
    """The problem that an answer of the API states; None if it states none."""
    try:
        found = answer.json()
    except ValueError:
        return None
    if not isinstance(found, dict) or "code" not in found:
        return None
    after = answer.headers.get("Retry-After", "")
    seconds = float(after) if after.isdigit() else 5.0 if answer.status_code >= 500 else None
    return Problem(answer.status_code, str(found["code"]), str(found.get("detail")), seconds)


def _pauses() -> Iterator[float]:
    pause = float(PAUSE["first"])
    while True:
        yield pause
        pause = min(pause * PAUSE["growth"], PAUSE["most"])


def _pause_after(error: Problem | Unreachable, pauses: Iterator[float]) -> float:
    """How long to wait before the next attempt. Raises the error if no attempt can succeed."""
    pause = next(pauses)
    if isinstance(error, Unreachable):
        return pause
    if error.retry_after is None:
        raise error
    return max(pause, error.retry_after)


def _outcome(found: Json) -> Outcome:
    return Outcome(**{name: found[name] for name in Outcome.__dataclass_fields__ if name in found})


def _is_over(outcome: Outcome) -> bool:
    """Whether nothing more comes by itself."""
    if outcome.verdict is None:
        return False
    stopped = outcome.waiting or outcome.rejected or outcome.code is not None
    return outcome.done or outcome.verdict == "refused" or stopped


def _event(raw: Json) -> Event:
    return Event(
        seq=raw["seq"],
        event=raw["event"],
        request=raw.get("request"),
        subject=raw.get("subject"),
        code=raw.get("code"),
        data=raw["data"],
        raw=raw,
    )


def _number(seconds: float) -> str:
    return f"{min(max(seconds, 0), MOST_WAIT_SECONDS):g}"


def _segment(name: str) -> str:
    if name.strip(".") == "":
        # a path would lose it, and be another one
        raise Problem(404, "NOT_FOUND", "There is no such name.", None)
    return quote(name, safe="")


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
