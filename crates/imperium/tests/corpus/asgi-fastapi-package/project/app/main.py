from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.routers import items

app = FastAPI(
    title="Shop",
)
app.add_middleware(CORSMiddleware, allow_origins=["*"])
app.include_router(items.router)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run("app.main:app", reload=True)
