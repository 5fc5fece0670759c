"""The site's own pages."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("contact", views.contact, name="contact"),
    path("upload", views.upload, name="upload"),
    path("visits", views.visits, name="visits"),
    path("pid", views.pid, name="pid"),
]
