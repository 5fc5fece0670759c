NAME = "flask-one-file-in-package"
