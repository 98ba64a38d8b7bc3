"""An admin's answers, by the program that each admin runs on their own machine."""

import contextlib
import io
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from chamberlain_client import Client, sign
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

SETTINGS = {
    "CHAMBERLAIN_URL": os.environ["API_URL"],
    "CHAMBERLAIN_REALM": os.environ["REALM"],
    "CHAMBERLAIN_ADMIN": "steward",
    "CHAMBERLAIN_KID": "steward-1",
    "CHAMBERLAIN_KEY": os.environ["ADMIN_KEY"],
}


@dataclass
class Ended:
    code: int
    stdout: str
    stderr: str


def answer(*words: str, says: str = "y\n") -> Ended:
    """Runs the program as an admin does who says that."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "stdin", io.StringIO(says))
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        code = sign.main(list(words))
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture
def person(client: Client) -> str:
    name = f"p{uuid.uuid4().hex[:8]}"
    fields = {"shellName": name, "displayName": f"The {name}", "email": f"{name}@example.org"}
    assert client.wait(client.sign("person.create", requestedBy=name, **fields)).done
    return name


def test_an_answer_is_said_in_words_and_sent_after_a_yes(person: str) -> None:
    grant = ("access.grant", f"person={person}", "reason=Welcome.")
    for says in ("n\n", "\n", ""):
        refrained = answer(*grant, says=says)
        assert refrained.code == 1 and "Accepted" not in refrained.stdout
    done = answer(*grant)
    assert done.stderr == "" and done.code == 0
    assert f"GIVE {person} access to the realm {os.environ['REALM']}\n  because: Welcome." in done.stdout
    assert f'displayName: "The {person}"' in done.stdout  # from the API
    assert done.stdout.endswith("Accepted.\n")
    again = answer(*grant)
    assert again.code == 1 and "already has access" in again.stdout


def test_what_is_approved_is_shown_as_the_api_knows_it(client: Client, person: str) -> None:
    request = client.sign("person.delete", requestedBy=person, person=person)
    assert client.wait(request).waiting
    done = answer("request.approve", f"request={request.id}", f"sentBy={os.environ['PORTAL']}")
    assert done.code == 0, done.stdout + done.stderr
    assert '\n  kind: "person.delete"\n' in done.stdout and f'account: "{person}"' in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["person.delete", "person=alice"], "it signs no person.delete"),
        (["access.refuse", "person=alice"], "access.refuse needs reason=…"),
        (["access.grant", "person=alice", "atOnce=1"], "access.grant has no field atOnce"),
        (["access.grant", "person=nobody\x1b[2J"], r"there is no person nobody\x1b[2J"),
        (["request.approve", "request=38"], "request must be the id of the request (a UUID)"),
        (["request.approve", "request=../people"], "badly formed"),
    ],
)
def test_a_wrong_command_signs_nothing(words: list[str], said: str) -> None:
    ended = answer(*words)
    assert ended.code > 0 and said in ended.stderr and "\x1b" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.OpenSSH])
def test_a_key_with_a_passphrase(form: PrivateFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path(os.environ["ADMIN_KEY"]).read_bytes()
    key = load_pem_private_key(plain, password=None)
    file = tmp_path / "key"
    file.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
    monkeypatch.setattr(sign, "getpass", lambda _: "secret")
    assert sign._read_key(file).split() == plain.split()
    monkeypatch.setattr(sign, "getpass", lambda _: "wrong")
    with pytest.raises(ValueError):
        sign._read_key(file)


def test_without_a_kid_the_fingerprint_of_the_key_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", file], check=True, capture_output=True, text=True)
    assert sign._fingerprint(sign._read_key(file)) == shown.stdout.split()[1]
    monkeypatch.delitem(SETTINGS, "CHAMBERLAIN_KID")
    monkeypatch.delenv("CHAMBERLAIN_KID", raising=False)
    ended = answer("access.grant", "person=alice")  # the configuration lists this key under another kid
    assert ended.code == 1 and "CALL_UNSIGNED" in ended.stderr
