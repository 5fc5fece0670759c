NAME = "flask-lib"
