from a2wsgi import ASGIMiddleware
from fastapi import FastAPI

app = FastAPI()
application = ASGIMiddleware(app)
