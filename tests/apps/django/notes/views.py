"""The site's own pages."""

import hashlib
import os
import time

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from .forms import ContactForm, UploadForm
from .models import Note


def home(request):
    return render(request, "notes/home.html", {"notes": Note.objects.all()[:10], "pid": os.getpid()})


def contact(request):
    form = ContactForm(request.POST or None)
    if form.is_valid():
        form.save()
        messages.success(request, "Thank you, it is noted.")
        return redirect("home")
    return render(request, "notes/form.html", {"title": "Contact", "form": form})


def upload(request):
    """Reports what was uploaded, without storing it."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if not form.is_valid():
        return render(request, "notes/form.html", {"title": "Upload", "form": form})
    digest = hashlib.sha256()
    for chunk in form.cleaned_data["file"].chunks():
        digest.update(chunk)
    return render(request, "notes/uploaded.html", {"file": form.cleaned_data["file"], "sha256": digest.hexdigest()})


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"{request.session['visits']}\n", content_type="text/plain")


def pid(request):
    time.sleep(float(request.GET.get("sleep", 0)))
    return HttpResponse(f"{os.getpid()}\n", content_type="text/plain")
