NAME = "flask-relative-imports"
