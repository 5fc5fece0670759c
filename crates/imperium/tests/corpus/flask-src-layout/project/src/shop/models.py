NAME = "flask-src-layout"
