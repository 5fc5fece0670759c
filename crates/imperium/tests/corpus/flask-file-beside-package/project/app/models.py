NAME = "flask-file-beside-package"
