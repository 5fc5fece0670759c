import web

urls = ("/", "index")
app = web.application(urls, globals())
application = app.wsgifunc()
