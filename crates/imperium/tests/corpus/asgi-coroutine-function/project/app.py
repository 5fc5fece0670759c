async def app(request):
    return "hello"
