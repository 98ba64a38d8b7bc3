"""Receives events, and sends again what has no verdict yet. Run one of it, always."""

import signal

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.db import transaction

from ... import chamberlain
from ...models import Account, Key, Position, Sent


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args, **options):
        self.is_ending = False
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self.end)
        position, _ = Position.objects.get_or_create(pk=1)
        for event in chamberlain.events(position.last, self.between_two_calls):
            with transaction.atomic():
                # the number and what the event changed are stored together, or neither is
                if Position.objects.filter(pk=1, last__lt=event.seq).update(last=event.seq):
                    take(event)

    def end(self, *_):
        self.is_ending = True

    def between_two_calls(self) -> bool:
        if not self.is_ending:
            chamberlain.send_again()
        return self.is_ending


def take(event) -> None:
    """Stores what an event says. Events that the portal does not know are none of its business."""
    data, (subject, _, what) = event.data, event.event.partition(".")
    accounts = Account.objects.filter(shell_name=data.get("account"))
    if subject == "request":
        for sent in Sent.objects.filter(pk=event.request):
            sent.advance(what, data.get("sentence") or data.get("why") or data.get("reason"))
    elif subject == "access":
        accounts.update(access=what)
        if "reason" in data:
            accounts.update(access_reason=data["reason"] or "")
    elif event.event == "key.added":
        for account in accounts:
            fields = {"account": account, "label": data["label"] or ""}
            Key.objects.update_or_create(fingerprint=data["fingerprint"], defaults=fields)
    elif event.event == "key.removed":
        Key.objects.filter(fingerprint=data["fingerprint"]).delete()
    elif event.event == "person.erased":
        User.objects.filter(account__in=accounts).delete()
