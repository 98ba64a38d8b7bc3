"""Run against a real realm: the environment names one, as README.md says. test/clients/python.test.ts starts one."""

import re
import time
import uuid
from pathlib import Path
from unittest.mock import patch

from chamberlain_client import Client
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.contrib.auth.models import User
from django.test import TransactionTestCase

from . import chamberlain
from .management.commands import listen
from .models import Account, Position, Sent

AWAY = {**settings.CHAMBERLAIN, "url": "http://127.0.0.1:2"}


def new_name() -> str:
    return f"p{uuid.uuid4().hex[:8]}"


def new_key() -> str:
    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


class PortalTest(TransactionTestCase):
    #: of the last event: the database is emptied after each test, and the realm is not
    position = 0

    def setUp(self):
        Position.objects.create(pk=1, last=PortalTest.position)
        self.addCleanup(chamberlain.client.cache_clear)

    def tearDown(self):
        PortalTest.position = Position.objects.get(pk=1).last

    def away(self):
        """Until the end of the block, nothing answers."""
        chamberlain.client.cache_clear()
        self.addCleanup(chamberlain.client.cache_clear)
        return self.settings(CHAMBERLAIN=AWAY)

    def listen(self, until) -> None:
        """Runs the command until something has come true."""

        class Until(listen.Command):
            def between_two_calls(self) -> bool:
                if time.monotonic() > end:
                    raise AssertionError("it has not come true")
                return super().between_two_calls() or until()

        end = time.monotonic() + 30
        Until().handle()

    def sign_up(self, name: str):
        form = {"username": name, "first_name": name.title(), "email": f"{name}@example.org"}
        password = "a Longer one 1"
        return self.client.post("/sign-up", {**form, "password1": password, "password2": password}, follow=True)

    def person(self) -> str:
        """Signs up, and has the verdict."""
        name = new_name()
        self.sign_up(name)
        self.assertEqual(Account.objects.get(shell_name=name).user.username, name)
        return name


class SignUp(PortalTest):
    def test_it_makes_a_person(self):
        name = self.person()
        self.listen(lambda: Sent.objects.get().state == "done")
        self.assertEqual(chamberlain.person(name)["displayName"], name.title())

    def test_the_form_says_why_a_name_is_refused(self):
        self.assertContains(self.sign_up("root"), "The name root is reserved")
        self.assertContains(self.sign_up("not.one"), "errorlist")
        self.assertFalse(User.objects.exists())

    def test_nobody_is_vouched_for_whose_sign_up_was_refused(self):
        taken = self.person()
        self.client.post("/logout")
        User.objects.all().delete()
        with patch("portal.forms.person_objections", return_value=[]):  # it was free when the form asked
            page = self.sign_up(taken)
        self.assertContains(page, f"The name {taken} is taken")
        self.assertRedirects(self.client.get("/keys"), "/")
        self.assertRedirects(self.client.post("/keys", {"key": new_key()}), "/")
        self.assertEqual(list(Sent.objects.values_list("kind", "state")), [("person.create", "refused")])
        other = new_name()
        self.client.post("/", {"shell_name": other, "name": other})
        self.listen(lambda: Account.objects.filter(shell_name=other).exists())

    def test_without_an_answer_it_is_stored_and_sent_later(self):
        name = new_name()
        with self.away():
            page = self.sign_up(name)
            self.assertContains(page, "Your request is stored")
            self.assertEqual(Sent.objects.get().state, "new")
        chamberlain.client.cache_clear()
        sent = Sent.objects.get()
        self.listen(lambda: Sent.objects.get().state == "done")
        self.assertEqual(Sent.objects.get().id, sent.id)


class Keys(PortalTest):
    def test_a_key_is_added_and_removed(self):
        account = Account.objects.get(shell_name=self.person())
        key = new_key()
        self.client.post("/keys", {"key": f"{key} desk", "label": ""})
        self.listen(lambda: account.key_set.exists())
        found = account.key_set.get()
        self.assertContains(self.client.get("/keys"), found.fingerprint)
        self.client.post("/keys/remove", {"fingerprint": found.fingerprint})
        self.listen(lambda: not account.key_set.exists())

    def test_the_form_has_the_words_of_the_parser(self):
        self.person()
        page = self.client.post("/keys", {"key": "ssh-ed25519 no"})
        self.assertContains(page, chamberlain.key_objection("ssh-ed25519 no"), html=False)
        self.assertFalse(Sent.objects.filter(kind="key.add").exists())


class Access(PortalTest):
    def test_it_is_asked_for_and_an_admin_sees_the_commands(self):
        name = self.person()
        self.client.post("/access", {"reason": "To run; a bot's home"})
        self.listen(lambda: Account.objects.get(shell_name=name).access == "requested")
        self.assertEqual(self.client.get("/answers").status_code, 302)
        User.objects.filter(username=name).update(is_staff=True)
        page = self.client.get("/answers")
        self.assertContains(page, f"access.grant person={name}")
        self.assertContains(page, "To run; a bot&#x27;s home")
        page = self.client.post("/access", {"reason": "again"})
        self.assertContains(page, "has already requested access")


class Listen(PortalTest):
    def test_an_event_counts_only_with_what_it_changed(self):
        self.person()
        before = Position.objects.get(pk=1).last
        with patch.object(listen, "take", side_effect=RuntimeError), self.assertRaises(RuntimeError):
            self.listen(lambda: False)
        self.assertEqual(Position.objects.get(pk=1).last, before)
        self.listen(lambda: Sent.objects.get().state == "done")


class Tools(PortalTest):
    def test_who_has_no_access_creates_none_and_is_told_why(self):
        self.person()
        page = self.client.post("/tools/new", {"name": new_name(), "title": "A tool"})
        self.assertContains(page, "access")
        self.assertEqual(Sent.objects.latest("created").state, "refused")

    def test_the_script_is_told_whether_a_name_is_free(self):
        self.person()
        said = lambda name: self.client.get("/tools/name", {"name": name}).json()["sentence"]
        self.assertEqual(said(new_name()), "The name is free.")
        self.assertIn("reserved", said("root"))
        self.assertEqual(said(""), "This is not a name.")

    def test_without_an_answer_there_is_a_page_that_says_so(self):
        self.person()
        with self.away():
            page = self.client.get("/tools")
        self.assertContains(page, "Nothing is lost", status_code=503)


class OnlyOneFile(PortalTest):
    def test_speaks_to_chamberlain(self):
        files = [each for each in Path(__file__).parent.rglob("*.py") if each.name != "tests.py"]
        speaking = [each.name for each in files if re.search("chamberlain_client import", each.read_text())]
        self.assertEqual(speaking, ["chamberlain.py"])
        self.assertIsInstance(chamberlain.client(), Client)
