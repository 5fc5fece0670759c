NAME = "flask-folder-with-a-dash"
