"""What people type in. Each form shows the sentence with which Chamberlain would refuse it."""

from django import forms
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User

from . import chamberlain


class SignUpForm(UserCreationForm):
    class Meta:
        model = User
        fields = ("username", "first_name", "email")
        labels = {"username": "Shell name", "first_name": "Your name"}
        help_texts = {"username": "You log in with it, here and with ssh."}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["first_name"].required = self.fields["email"].required = True

    def clean(self):
        found = super().clean()
        if not self.errors:
            user = User(first_name=found["first_name"], email=found["email"])
            for sentence in person_objections(user, found["username"]):
                self.add_error(None, sentence)
        return found


def new_person(user: User, shell_name: str) -> dict:
    """The request that makes a user a person of the realm."""
    return {
        "kind": "person.create",
        "requested_by": shell_name,
        "shellName": shell_name,
        "displayName": user.first_name,
        "email": user.email,
    }


def objections(ask, *args, **fields) -> list[str]:
    """The sentence that Chamberlain says against something; none while it is away: it will be asked again."""
    try:
        sentence = ask(*args, **fields)
    except chamberlain.AWAY:
        sentence = None
    return [sentence] if sentence else []


def person_objections(user: User, shell_name: str) -> list[str]:
    named = objections(chamberlain.name_objection, shell_name, "person")
    return named or objections(chamberlain.objection, **new_person(user, shell_name))


class NamesForm(forms.Form):
    """Other names, after the first ones were refused. The user logs in here with the first one all the same."""

    shell_name = forms.CharField(help_text="You log in with it by ssh.")
    name = forms.CharField(label="Your name", max_length=150)

    def __init__(self, user: User, *args, **kwargs):
        super().__init__(*args, initial={"name": user.first_name}, **kwargs)
        self.user = user

    def clean(self):
        if not self.errors:
            self.user.first_name = self.cleaned_data["name"]
            for sentence in person_objections(self.user, self.cleaned_data["shell_name"]):
                self.add_error(None, sentence)


class KeyForm(forms.Form):
    key = forms.CharField(widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}), strip=False)
    label = forms.CharField(required=False)

    def clean_key(self) -> str:
        for sentence in objections(chamberlain.key_objection, self.cleaned_data["key"]):
            raise forms.ValidationError(sentence)
        return self.cleaned_data["key"]


class AccessForm(forms.Form):
    reason = forms.CharField(label="What would you like to do?", widget=forms.Textarea(attrs={"rows": 3}))


class ToolForm(forms.Form):
    name = forms.CharField(widget=forms.TextInput(attrs={"aria-describedby": "name-state"}))
    title = forms.CharField()


class MaintainerForm(forms.Form):
    person = forms.CharField(label="Shell name, or tools.NAME of another tool")
