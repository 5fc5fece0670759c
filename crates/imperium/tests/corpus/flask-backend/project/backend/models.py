NAME = "flask-backend"
