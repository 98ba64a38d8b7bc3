from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("sign-up", views.sign_up, name="sign-up"),
    path("login", LoginView.as_view(), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("keys", views.keys, name="keys"),
    path("keys/remove", views.remove_key, name="remove-key"),
    path("access", views.access, name="access"),
    path("tools", views.tools, name="tools"),
    path("tools/new", views.new_tool, name="new-tool"),
    path("tools/name", views.tool_name, name="tool-name"),
    path("tool/<str:name>", views.tool, name="tool"),
    path("answers", views.answers, name="answers"),
]
