"""`manage.py seed`: creates an administrator and a first note, unless they exist."""

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand

from notes.models import Note


class Command(BaseCommand):
    help = "Makes the user admin with the password imperium, and a first note, unless they are there."

    def handle(self, *args, **options):
        if not User.objects.filter(username="admin").exists():
            User.objects.create_superuser("admin", password="imperium")
        if not Note.objects.exists():
            Note.objects.create(title="Welcome", text="Add more in the admin: admin, imperium.")
