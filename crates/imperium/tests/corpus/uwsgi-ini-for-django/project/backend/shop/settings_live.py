from shop.settings import *  # noqa: F403
