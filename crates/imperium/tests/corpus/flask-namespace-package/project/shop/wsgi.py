from shop.site import app as application
