"""CORS, and the response to an exception of the app's own."""

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpResponse, JsonResponse
from django.utils.decorators import async_only_middleware

import memory
from on_django.views import Handled


@async_only_middleware
def cors(get_response):
    async def middleware(request):
        asked = request.headers.get("Access-Control-Request-Method")
        if request.method == "OPTIONS" and asked:
            response = HttpResponse(status=204, headers={"Access-Control-Allow-Methods": asked})
        else:
            response = await get_response(request)
        if request.headers.get("Origin") == memory.ORIGIN:
            response["Access-Control-Allow-Origin"] = memory.ORIGIN
        return response

    return middleware


class Failures:
    async_capable = True
    sync_capable = False

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request):
        return await self.get_response(request)

    def process_exception(self, request, error):
        if isinstance(error, Handled):
            return JsonResponse({"error": "handled"}, status=422)
