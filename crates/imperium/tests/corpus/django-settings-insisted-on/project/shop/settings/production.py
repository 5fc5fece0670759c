from .dev import *  # noqa: F403
