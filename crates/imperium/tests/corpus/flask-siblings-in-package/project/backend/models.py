NAME = "flask-siblings-in-package"
