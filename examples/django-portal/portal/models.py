"""What the portal keeps. Who exists, and what they may do, Chamberlain decides."""

import uuid

from django.conf import settings
from django.db import models, transaction


class Account(models.Model):
    """The person in the realm that a user of the portal is."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE)
    #: Set only when Chamberlain has accepted this user's own sign-up, because the portal vouches for it from then on.
    shell_name = models.CharField(max_length=64, unique=True, null=True)
    #: requested, granted, refused or revoked; empty if they have not asked
    access = models.CharField(max_length=16, blank=True)
    #: why they ask; after an answer, the admin's reason
    access_reason = models.TextField(blank=True)


class Key(models.Model):
    """An SSH key that Chamberlain has accepted."""

    account = models.ForeignKey(Account, models.CASCADE)
    fingerprint = models.CharField(max_length=64, unique=True)
    label = models.CharField(max_length=255)


class Sent(models.Model):
    """A request, stored before it is sent: sent again with the same id, it counts once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    kind = models.CharField(max_length=32)
    requested_by = models.CharField(max_length=150)
    fields = models.JSONField()
    #: new, then as the events say: accepted, refused, waiting, approved, rejected, stuck, done
    state = models.CharField(max_length=16, default="new")
    sentence = models.TextField(blank=True)
    created = models.DateTimeField(auto_now_add=True)

    def advance(self, state: str | None, sentence: str | None) -> None:
        """Takes a verdict, if there is one, or an event. A verdict that comes after its event changes nothing."""
        rows = Sent.objects.filter(pk=self.pk)
        if state in ("accepted", "refused"):
            rows = rows.filter(state="new")
        with transaction.atomic():
            if state and rows.update(state=state, sentence=sentence or "") and state != "refused":
                if self.kind == "person.create":
                    own = Account.objects.filter(user=self.user, shell_name=None)
                    own.update(shell_name=self.fields["shellName"])
        self.refresh_from_db()


class Position(models.Model):
    """The number of the last event whose changes are stored."""

    last = models.BigIntegerField(default=0)
