NAME = "flask-package-itself"
