import os
import uuid

import pytest
from chamberlain_client import Client, Event, Problem, Request, Unreachable
from conftest import answering, make_client
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cutting_proxy import CuttingProxy

PERSON = os.environ["PERSON"]
API_URL = os.environ["API_URL"]


def new_name() -> str:
    return f"bot{uuid.uuid4().hex[:8]}"


def create(client: Client, name: str) -> Request:
    return client.sign("tool.create", requestedBy=PERSON, name=name, title="A bot")


def refuse(client: Client) -> str:
    """Has a request refused, which makes one event."""
    request = create(client, "root")
    assert client.send(request, wait="verdict").verdict == "refused"
    return request.id


def test_a_request_is_done_and_counts_once(client: Client) -> None:
    request = create(client, new_name())
    sent = client.send(request)
    assert (sent.id, sent.verdict, sent.done) == (request.id, None, False)
    for _ in range(2):
        outcome = client.wait(request)
        assert (outcome.verdict, outcome.done, outcome.code) == ("accepted", True, None)
    found = client.request(request.id)
    assert found is not None and found["state"] == "done"
    assert client.request("00000000-0000-4000-8000-000000000000") is None


def test_a_refusal_is_an_outcome(client: Client) -> None:
    outcome = client.wait(create(client, "root"))
    assert (outcome.verdict, outcome.code) == ("refused", "NAME_RESERVED")
    assert outcome.sentence is not None and "root" in outcome.sentence


def test_a_check_does_nothing(client: Client) -> None:
    name = new_name()
    for _ in range(2):
        assert client.check("tool.create", requestedBy=PERSON, name=name, title="T").verdict == "accepted"
    assert client.name(name, of="tool")["state"] == "free"
    refused = client.check("tool.create", requestedBy=PERSON, name="root", title="T")
    assert (refused.verdict, refused.code) == ("refused", "NAME_RESERVED")


def test_names(client: Client) -> None:
    assert client.name(PERSON)["state"] == "taken"
    assert client.name("root")["state"] == "reserved"
    assert client.name("No such/name?é", of="tool")["state"] == "invalid"
    assert client.name("..")["state"] == client.name("")["state"] == "invalid"
    assert client.tool("..") is None


def test_what_the_portal_may_read(client: Client) -> None:
    name = new_name()
    request = create(client, name)
    assert client.tool(name) is None
    assert client.wait(request).done
    tool = client.tool(name)
    assert tool is not None and tool["maintainers"] == [PERSON]
    assert client.person(PERSON) is None  # the portal has no right to people
    ids = [item["id"] for item in client.pages("/v1/requests", limit=2)]
    assert ids[0] == request.id and len(ids) == len(set(ids)) > 2


def test_a_pasted_key(client: Client) -> None:
    refused = client.check_key("ssh-ed25519 no")
    assert refused["accepted"] is False and refused["code"].startswith("KEY_")
    raw = Ed25519PrivateKey.generate().public_key()
    found = client.check_key(raw.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    assert found["fingerprint"].startswith("SHA256:")


def test_an_invalid_call_raises_a_problem_that_no_repetition_mends(client: Client) -> None:
    with pytest.raises(Problem) as caught:
        client.read("/v1/names/x", no="such")
    assert (caught.value.status, caught.value.code) == (400, "CALL_INVALID")
    assert caught.value.retry_after is None
    with pytest.raises(Problem) as caught:
        client.wait(Request("x", "no token"))
    assert caught.value.code == "REQUEST_MALFORMED"


def test_an_address_that_is_none_is_a_fault_of_the_program(client: Client) -> None:
    with pytest.raises(ValueError, match="not the address of an API"):
        make_client("127.0.0.1:1").wait(create(client, "anybot"))


def test_an_api_that_is_away_is_waited_for(client: Client) -> None:
    request = create(client, new_name())
    with pytest.raises(Unreachable) as caught:
        make_client("http://127.0.0.1:9").send(request)
    assert request.token not in str(caught.value)
    # the first three connections bring no whole answer
    with CuttingProxy(API_URL, lambda n: 20 if n < 3 else None) as proxy:
        assert make_client(proxy.url).wait(request, seconds=30).done
        assert proxy.connections >= 4


PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    "answer",
    [
        *((status, "text/html", "<h1>no</h1>") for status in (200, 302, 401, 404, 502)),
        (404, None, ""),
        (404, "application/json", '{"code":"NOT_FOUND"}'),
        (404, PROBLEM, '{"code":"NOT_FOU'),
        (404, PROBLEM, '{"status":404}'),
        (200, "application/json", ""),
        (200, "application/json", '{"id":"x","verd'),
    ],
)
def test_an_answer_that_is_not_of_the_api_is_no_answer_at_all(
    client: Client, answer: tuple[int, str | None, str]
) -> None:
    with answering(*answer) as url:
        there = make_client(url)
        for call in (
            lambda: there.person(PERSON),
            lambda: there.tool("x"),
            lambda: there.request("x"),
            lambda: there.name("x"),
            lambda: there.check_key("x"),
            lambda: next(there.pages("/v1/requests")),
            lambda: there.send(create(client, "anybot"), wait="done"),
            lambda: there.check("tool.create", requestedBy=PERSON),
        ):
            with pytest.raises(Unreachable):
                call()
        assert there.wait(create(client, "anybot"), seconds=0.05).verdict is None


def test_an_answer_that_does_not_name_the_request_is_none(client: Client) -> None:
    with answering(200, "application/json", '{"status":"ok"}') as url:
        there = make_client(url)
        with pytest.raises(Unreachable):
            there.send(create(client, "anybot"))
        with pytest.raises(Unreachable):
            there.check("tool.create", requestedBy=PERSON)


def test_a_proxy_that_answers_itself_does_not_end_the_events() -> None:
    stop = iter([False, True])
    with answering(404, "text/html", "<h1>no</h1>") as url:
        assert list(make_client(url).events(0, stop=lambda: next(stop))) == []


def test_a_wrong_address_of_the_api_is_not_the_absence_of_what_was_asked(client: Client) -> None:
    lost = make_client(f"{API_URL}/elsewhere")
    for call in (lambda: lost.person(PERSON), lambda: lost.wait(create(client, "anybot"))):
        with pytest.raises(Problem) as caught:
            call()
        assert caught.value.code == "ROUTE_UNKNOWN"


def test_events_resume_where_they_were_interrupted(client: Client) -> None:
    first = refuse(client)
    stored: list[Event] = []
    for event in client.events(0):
        stored.append(event)
        if event.request == first:
            break
    ids = [refuse(client) for _ in range(5)]
    with CuttingProxy(API_URL, lambda n: 30 + 300 * n if n < 5 else None) as proxy:
        cut = make_client(proxy.url)
        for event in cut.events(stored[-1].seq):
            stored.append(event)
            if event.request == ids[-1]:
                break
        assert proxy.connections >= 5
    numbers = [event.seq for event in stored]
    assert numbers == list(range(1, len(numbers) + 1))
    told = [event.request for event in stored if event.event == "request.refused"]
    assert told[-6:] == [first, *ids]
    assert stored[-1].code == "NAME_RESERVED" and "sentence" in stored[-1].data


def test_events_of_another_key_are_refused(client: Client) -> None:
    refuse(client)
    other = Ed25519PrivateKey.generate().public_key()
    client._events_key = other
    with pytest.raises(ValueError, match="not signed"):
        next(client.events(0))
