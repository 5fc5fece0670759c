//! What to do with an ASGI app, which isn't supported: `imperium new` and the workers say the same.

/// The advice for most apps.
pub const ADVICE: &str = "wrap it, as in `from a2wsgi import ASGIMiddleware; application = ASGIMiddleware(app)`, or serve it with uvicorn";

/// The advice for a project of Django, which has both.
pub const ADVICE_FOR_DJANGO: &str =
    "name the WSGI app of the same project, such as \"mysite.wsgi:application\"";
