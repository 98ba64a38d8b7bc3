"""The pages. A view stores a request and sends it; what becomes of it comes with the events (`listen`)."""

import shlex
from functools import wraps

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required, user_passes_test
from django.db import transaction
from django.http import Http404, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from . import chamberlain
from .forms import AccessForm, KeyForm, MaintainerForm, NamesForm, SignUpForm, ToolForm, new_person
from .models import Account, Sent


class AwayPage:
    """The middleware that shows a page of its own while Chamberlain does not answer."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, exception):
        if isinstance(exception, chamberlain.AWAY):
            chamberlain.log.warning("no answer for the page %s: %s", request.path, exception)
            return render(request, "away.html", status=503)
        return None


def person_required(view):
    """Only for users whose sign-up Chamberlain has accepted: the portal vouches for nobody else."""

    @login_required
    @wraps(view)
    def guarded(request, *args, **kwargs):
        if request.user.account.shell_name is None:
            messages.info(request, "Your account is not ready yet.")
            return redirect("home")
        return view(request, *args, **kwargs)

    return guarded


def ask(request, kind: str, **fields) -> bool:
    """Sends a request of the person who is logged in, and tells them the verdict; False if it was refused."""
    return tell(request, chamberlain.submit(request.user, kind, request.user.account.shell_name, **fields))


def tell(request, sent: Sent) -> bool:
    if sent.state == "refused":
        messages.error(request, sent.sentence)
    elif sent.state == "new":
        messages.warning(request, "Your request is stored, and is sent as soon as Chamberlain answers.")
    elif sent.state == "waiting":
        messages.info(request, sent.sentence)
    elif sent.kind == "access.request":
        messages.info(request, "Accepted. An admin must now decide.")
    else:
        messages.success(request, "Accepted. It takes effect within a few seconds.")
    return sent.state != "refused"


def sign_up(request):
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            user = form.save()
            Account.objects.create(user=user)
        login(request, user)
        tell(request, chamberlain.submit(user, **new_person(user, user.username)))
        return redirect("home")
    return render(request, "form.html", {"title": "Sign up", "form": form})


@login_required
def home(request):
    account, _ = Account.objects.get_or_create(user=request.user)
    asked = Sent.objects.filter(user=request.user).order_by("-created")
    sign_ups = asked.filter(kind="person.create")
    form = None
    if account.shell_name is None and not sign_ups.exclude(state="refused").exists():
        form = NamesForm(request.user, request.POST or None)
        if request.method == "POST" and form.is_valid():
            form.user.save()
            wish = new_person(form.user, form.cleaned_data["shell_name"])
            tell(request, chamberlain.submit(request.user, **wish))
            return redirect("home")
    return render(request, "home.html", {"account": account, "asked": asked[:10], "form": form})


@person_required
def keys(request):
    account = request.user.account
    form = KeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = {name: value for name, value in form.cleaned_data.items() if value}
        if ask(request, "key.add", person=account.shell_name, **given):
            return redirect("keys")
    return render(request, "keys.html", {"account": account, "form": form})


@person_required
@require_POST
def remove_key(request):
    fingerprint = request.POST.get("fingerprint", "")
    ask(request, "key.remove", person=request.user.account.shell_name, fingerprint=fingerprint)
    return redirect("keys")


@person_required
def access(request):
    form = AccessForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if ask(request, "access.request", reason=form.cleaned_data["reason"]):
            Account.objects.filter(user=request.user).update(access_reason=form.cleaned_data["reason"])
            return redirect("home")
    return render(request, "form.html", {"title": "Ask for access", "form": form})


@person_required
def tools(request):
    person = chamberlain.person(request.user.account.shell_name) or {"maintains": []}
    names = [account.split(".", 1)[1] for account in person["maintains"]]
    return render(request, "tools.html", {"names": names})


@person_required
def new_tool(request):
    form = ToolForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if ask(request, "tool.create", **form.cleaned_data):
            return redirect("tools")
    return render(request, "new_tool.html", {"title": "Create a tool", "form": form})


@login_required
@require_GET
def tool_name(request):
    """For the script of the page: whether a name is free."""
    try:
        sentence = chamberlain.name_objection(request.GET.get("name", ""), "tool") or "The name is free."
    except chamberlain.AWAY:
        sentence = ""  # nobody knows now; the verdict will tell
    return JsonResponse({"sentence": sentence})


@person_required
def tool(request, name: str):
    found = chamberlain.tool(name)
    if found is None:
        raise Http404
    form = MaintainerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        # whether the person may do so, Chamberlain decides
        kind = "maintainer.remove" if "remove" in request.POST else "maintainer.add"
        if ask(request, kind, tool=name, maintainers=[form.cleaned_data["person"]]):
            return redirect("tool", name)
    return render(request, "tool.html", {"tool": found, "form": form})


@user_passes_test(lambda user: user.is_staff)
@require_GET
def answers(request):
    """What waits for an admin, with the command that each admin runs on their own machine. Nothing is signed here."""
    people = Account.objects.filter(access="requested").select_related("user")
    sender = chamberlain.settings.CHAMBERLAIN["portal"]
    waiting = [
        (each, [command("request.approve", request=each.id, sentBy=sender)])
        for each in Sent.objects.filter(state="waiting")
    ]
    asking = [
        (
            each,
            [
                command("access.grant", person=each.shell_name, reason="Welcome."),
                command("access.refuse", person=each.shell_name, reason="Tell us more, then ask again."),
            ],
        )
        for each in people
    ]
    return render(request, "answers.html", {"asking": asking, "waiting": waiting})


def command(kind: str, **fields) -> str:
    words = [f"{name}={value}" for name, value in fields.items()]
    return shlex.join(["python3", "-m", "chamberlain_client.sign", kind, *words])
