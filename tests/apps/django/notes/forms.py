"""The forms of the site."""

from django import forms

from .models import Note


class ContactForm(forms.ModelForm):
    class Meta:
        model = Note
        fields = ["title", "text"]


class UploadForm(forms.Form):
    file = forms.FileField()
